//! What is sent in one go: a command, a script or a pipeline of them.

use bb8_redis::redis::{self, Cmd, Pipeline, RedisWrite, Value};
use std::io::Write;

use crate::RedisError;
use crate::Reply;
use crate::idempotent::Spec;

/// Seed and prime of the 64-bit FNV-1a hash.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// A command packed straight into the driver's buffer: no argument is an allocation of its own.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    cmd: Cmd,
    key_hash: u64,
}

impl Packed {
    /// A command with room for `arguments` of `bytes` together.
    pub(crate) fn new(name: &'static str, arguments: usize, bytes: usize) -> Self {
        let mut cmd = Cmd::with_capacity(1 + arguments, name.len() + bytes);
        cmd.write_arg(name.as_bytes());
        Self { cmd, key_hash: 0 }
    }

    /// Adds a key behind the connection pool's prefix. The last key decides on which lane the
    /// command travels: a key that many commands share, such as that of a lock or an epoch, stands
    /// before the key that a command is about.
    pub(crate) fn key(mut self, prefix: &str, key: &str) -> Self {
        if prefix.is_empty() {
            self.cmd.write_arg(key.as_bytes());
        } else {
            let mut argument = self.cmd.writer_for_next_arg();
            let written = argument
                .write_all(prefix.as_bytes())
                .and_then(|()| argument.write_all(key.as_bytes()));
            written.expect("memory takes all that is written to it");
        }
        self.key_hash = hash(hash_tag(key.as_bytes()));
        self
    }

    /// Adds an argument as it is.
    pub(crate) fn arg(mut self, argument: &[u8]) -> Self {
        self.cmd.write_arg(argument);
        self
    }

    pub(crate) fn into_cmd(self) -> Cmd {
        self.cmd
    }
}

/// A request's name and what may be done with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) name: &'static str,
    /// The name of the script, if it is one.
    pub(crate) script: Option<&'static str>,
    /// Sending it twice gives the same result as sending it once.
    pub(crate) repeatable: bool,
    /// Requests with the same hash travel on the same lane.
    pub(crate) key_hash: u64,
}

#[derive(Debug)]
pub(crate) enum Payload {
    One(Cmd),
    Many(Pipeline),
}

/// A request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) head: Head,
    pub(crate) payload: Payload,
}

impl Request {
    pub(crate) fn command(spec: Spec, packed: Packed) -> Self {
        let Spec { name, repeatable } = spec;
        let head = Head { name, script: None, repeatable, key_hash: packed.key_hash };
        Self { head, payload: Payload::One(packed.cmd) }
    }

    pub(crate) fn script(spec: Spec, summary: &'static str, packed: Packed) -> Self {
        let mut request = Self::command(spec, packed);
        request.head.script = Some(summary);
        request
    }

    /// Scripts that travel together, to the lane of the first one's key.
    pub(crate) fn scripts(spec: Spec, summary: &'static str, calls: Vec<Packed>) -> Self {
        let Spec { name, repeatable } = spec;
        let key_hash = calls.first().map_or(0, |first| first.key_hash);
        let mut pipeline = Pipeline::with_capacity(calls.len());
        for call in calls {
            pipeline.add_command(call.cmd);
        }
        let head = Head { name, script: Some(summary), repeatable, key_hash };
        Self { head, payload: Payload::Many(pipeline) }
    }

    /// Number of commands.
    pub(crate) fn len(&self) -> usize {
        match &self.payload {
            Payload::One(_) => 1,
            Payload::Many(pipeline) => pipeline.len(),
        }
    }

    /// The size of a pipeline.
    pub(crate) fn batch(&self) -> Option<usize> {
        match &self.payload {
            Payload::One(_) => None,
            Payload::Many(pipeline) => Some(pipeline.len()),
        }
    }

    /// Bytes of all arguments: what a waiting request costs in memory, the frame around it aside.
    pub(crate) fn bytes(&self) -> usize {
        match &self.payload {
            Payload::One(cmd) => bytes_of(cmd),
            Payload::Many(pipeline) => pipeline.cmd_iter().map(bytes_of).sum(),
        }
    }
}

fn bytes_of(cmd: &Cmd) -> usize {
    let argument = |argument| match argument {
        redis::Arg::Simple(bytes) => <[u8]>::len(bytes),
        redis::Arg::Cursor => 0,
        _ => 0,
    };
    cmd.args_iter().map(argument).sum()
}

/// The part of a key that decides where it lives: what stands in the first pair of braces, if that
/// is not empty, else the whole key (Redis Cluster specification, "Hash tags"). Keys that must
/// live together on a cluster share a tag, and travel on one lane here.
fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|byte| *byte == b'{') else {
        return key;
    };
    let behind = &key[open + 1..];
    match behind.iter().position(|byte| *byte == b'}') {
        Some(0) | None => key,
        Some(close) => &behind[..close],
    }
}

fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

/// The server's answers to one request.
#[derive(Debug)]
pub(crate) enum Answers {
    One(Value),
    Many(Vec<Value>),
}

impl Answers {
    pub(crate) fn into_one(self, command: &'static str) -> Result<Reply, RedisError> {
        let value = match self {
            Self::One(value) => value,
            Self::Many(values) => values.into_iter().next().unwrap_or(Value::Nil),
        };
        reply_of(value, command)
    }

    pub(crate) fn into_many(self, command: &'static str) -> Vec<Result<Reply, RedisError>> {
        match self {
            Self::One(value) => vec![reply_of(value, command)],
            Self::Many(values) => {
                values.into_iter().map(|value| reply_of(value, command)).collect()
            }
        }
    }

    pub(crate) fn as_slice(&self) -> &[Value] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

fn reply_of(value: Value, command: &'static str) -> Result<Reply, RedisError> {
    match value.extract_error() {
        Ok(value) => Ok(Reply::from_value(value)),
        Err(source) => Err(server_error(command, source)),
    }
}

/// The error of a command that the server refused.
pub(crate) fn server_error(command: &'static str, source: redis::RedisError) -> RedisError {
    let code = source.code().unwrap_or("ERR").to_owned();
    RedisError::Server { command, code, source }
}

#[cfg(test)]
mod tests {
    //! Keys that must live together are sent together.

    use super::{hash, hash_tag};

    #[test]
    fn what_is_in_braces_decides() {
        for (key, tag) in [
            ("pool:1", "pool:1"),
            ("cache:{pool:1}:entry", "pool:1"),
            ("{a}{b}", "a"),
            ("{}x", "{}x"),
            ("{open", "{open"),
            ("", ""),
        ] {
            assert_eq!(hash_tag(key.as_bytes()), tag.as_bytes(), "{key}");
        }
        assert_eq!(hash(b"a"), 0xaf63_dc4c_8601_ec8c, "the published value of FNV-1a");
    }
}
