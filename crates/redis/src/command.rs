//! One command before it is sent, and a Lua script.

use bb8_redis::redis;

use crate::idempotent::Spec;
use crate::request::Packed;

/// One Redis command with its keys and arguments in order.
///
/// Only a [`DedicatedRedis`](crate::DedicatedRedis) takes commands of any kind. The shared handle
/// has typed methods instead, so that a command that blocks or changes the connection's state
/// cannot be written down for it.
#[derive(Debug, Clone)]
pub struct Command {
    name: &'static str,
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Key(String),
    Argument(Vec<u8>),
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Self::Key(key) => key.len(),
            Self::Argument(argument) => argument.len(),
        }
    }
}

impl Command {
    /// A command by its name, such as `BLMOVE`.
    pub fn new(name: &'static str) -> Self {
        Self { name, parts: Vec::new() }
    }

    /// Adds a key; the connection pool's key prefix is put before it.
    #[must_use]
    pub fn key(mut self, key: impl AsRef<str>) -> Self {
        self.parts.push(Part::Key(key.as_ref().to_owned()));
        self
    }

    /// Adds an argument as it is.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<[u8]>) -> Self {
        self.parts.push(Part::Argument(argument.as_ref().to_vec()));
        self
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The command as the driver sends it.
    pub(crate) fn encode(&self, key_prefix: &str) -> redis::Cmd {
        let bytes = self.parts.iter().map(|part| key_prefix.len() + part.len()).sum();
        let packed = Packed::new(self.name, self.parts.len(), bytes);
        let add = |packed: Packed, part: &Part| match part {
            Part::Key(key) => packed.key(key_prefix, key),
            Part::Argument(argument) => packed.arg(argument),
        };
        self.parts.iter().fold(packed, add).into_cmd()
    }
}

/// A Lua script; servers are told its text only once.
#[derive(Debug)]
pub struct Script {
    summary: &'static str,
    text: &'static str,
    sha1: String,
    idempotent: bool,
}

impl Script {
    /// A script with a short name for spans. It is not sent again when its answer was lost.
    pub fn new(summary: &'static str, text: &'static str) -> Self {
        Self {
            summary,
            text,
            sha1: redis::Script::new(text).get_hash().to_owned(),
            idempotent: false,
        }
    }

    /// Declares that running the script twice gives the same result as running it once, so that
    /// it is sent again when its answer was lost.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    pub(crate) fn summary(&self) -> &'static str {
        self.summary
    }

    /// A run by the name that the server knows the script by, once it was told its text.
    pub(crate) fn by_hash(&self, call: &ScriptCall, key_prefix: &str) -> Packed {
        pack("EVALSHA", self.sha1.as_bytes(), call, key_prefix)
    }

    /// A run that also tells the text.
    pub(crate) fn by_text(&self, call: &ScriptCall, key_prefix: &str) -> Packed {
        pack("EVAL", self.text.as_bytes(), call, key_prefix)
    }

    pub(crate) fn spec(&self, name: &'static str) -> Spec {
        Spec { name, repeatable: self.idempotent }
    }
}

fn pack(name: &'static str, script: &[u8], call: &ScriptCall, key_prefix: &str) -> Packed {
    let ScriptCall { keys, arguments } = call;
    let key_count = keys.len().to_string();
    let bytes = script.len()
        + key_count.len()
        + keys.iter().map(|key| key_prefix.len() + key.len()).sum::<usize>()
        + arguments.iter().map(Vec::len).sum::<usize>();
    let packed = Packed::new(name, 2 + keys.len() + arguments.len(), bytes);
    let packed = packed.arg(script).arg(key_count.as_bytes());
    let packed = keys.iter().fold(packed, |packed, key| packed.key(key_prefix, key));
    arguments.iter().fold(packed, |packed, argument| packed.arg(argument))
}

/// Keys and arguments of one run of a [`Script`].
#[derive(Debug, Clone, Default)]
pub struct ScriptCall {
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
}

impl ScriptCall {
    /// A run without keys and arguments.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key; the connection pool's key prefix is put before it.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<[u8]>) -> Self {
        self.arguments.push(argument.as_ref().to_vec());
        self
    }
}
