//! One command before it is sent, and a Lua script.

use bb8_redis::redis;

/// One Redis command with its keys and arguments in order.
///
/// Only a [`DedicatedRedis`](crate::DedicatedRedis) takes commands of any kind. The shared handle
/// has typed methods instead, so that a command that blocks or changes the connection's state
/// cannot be written down for it.
#[derive(Debug, Clone)]
pub struct Command {
    name: &'static str,
    parts: Vec<Part>,
    idempotent: bool,
}

#[derive(Debug, Clone)]
enum Part {
    Word(&'static str),
    Key(String),
    Argument(Vec<u8>),
}

impl Command {
    /// A command by its name, such as `BLMOVE`.
    pub fn new(name: &'static str) -> Self {
        Self { name, parts: Vec::new(), idempotent: false }
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

    /// Adds a keyword of the command.
    #[must_use]
    pub(crate) fn word(mut self, word: &'static str) -> Self {
        self.parts.push(Part::Word(word));
        self
    }

    /// Marks a command that may be sent again when its answer was lost.
    #[must_use]
    pub(crate) fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn is_idempotent(&self) -> bool {
        self.idempotent
    }

    /// The last key, which decides on which lane the command travels: a key that many commands
    /// share, such as that of a lock or an epoch, stands before the key that a command is about.
    pub(crate) fn last_key(&self) -> Option<&str> {
        self.parts.iter().rev().find_map(|part| match part {
            Part::Key(key) => Some(key.as_str()),
            Part::Word(_) | Part::Argument(_) => None,
        })
    }

    /// The command as the driver sends it.
    pub(crate) fn encode(&self, key_prefix: &str) -> redis::Cmd {
        let mut command = redis::cmd(self.name);
        for part in &self.parts {
            match part {
                Part::Word(word) => command.arg(*word),
                Part::Key(key) if key_prefix.is_empty() => command.arg(key),
                Part::Key(key) => command.arg([key_prefix, key].concat()),
                Part::Argument(argument) => command.arg(argument.as_slice()),
            };
        }
        command
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

    pub(crate) fn by_hash(&self, call: &ScriptCall) -> Command {
        self.command("EVALSHA", self.sha1.as_bytes(), call)
    }

    pub(crate) fn by_text(&self, call: &ScriptCall) -> Command {
        self.command("EVAL", self.text.as_bytes(), call)
    }

    fn command(&self, name: &'static str, script: &[u8], call: &ScriptCall) -> Command {
        let mut command = Command::new(name).arg(script).arg(call.keys.len().to_string());
        command.idempotent = self.idempotent;
        command.parts.extend(call.keys.iter().cloned().map(Part::Key));
        command.parts.extend(call.arguments.iter().cloned().map(Part::Argument));
        command
    }
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
