//! What is sent in one go: a command, a script or a pipeline of them.

use bb8_redis::redis::{self, Cmd, Pipeline, RedisWrite, Value};
use std::io::Write;

use crate::RedisError;
use crate::Reply;
use crate::idempotent::Spec;

/// A command packed straight into the driver's buffer: no argument is an allocation of its own.
#[derive(Debug, Clone)]
pub(crate) struct Packed(Cmd);

impl Packed {
    /// A command with room for `arguments` of `bytes` together.
    pub(crate) fn new(name: &'static str, arguments: usize, bytes: usize) -> Self {
        let mut cmd = Cmd::with_capacity(1 + arguments, name.len() + bytes);
        cmd.write_arg(name.as_bytes());
        Self(cmd)
    }

    /// Adds a key behind the connection pool's prefix.
    pub(crate) fn key(mut self, prefix: &str, key: &str) -> Self {
        if prefix.is_empty() {
            self.0.write_arg(key.as_bytes());
        } else {
            let mut argument = self.0.writer_for_next_arg();
            let written = argument
                .write_all(prefix.as_bytes())
                .and_then(|()| argument.write_all(key.as_bytes()));
            written.expect("memory takes all that is written to it");
        }
        self
    }

    /// Adds an argument as it is.
    pub(crate) fn arg(mut self, argument: &[u8]) -> Self {
        self.0.write_arg(argument);
        self
    }

    pub(crate) fn into_cmd(self) -> Cmd {
        self.0
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
        Self { head: Head { name, script: None, repeatable }, payload: Payload::One(packed.0) }
    }

    pub(crate) fn script(spec: Spec, summary: &'static str, packed: Packed) -> Self {
        let mut request = Self::command(spec, packed);
        request.head.script = Some(summary);
        request
    }

    /// Scripts that travel together.
    pub(crate) fn scripts(spec: Spec, summary: &'static str, calls: Vec<Packed>) -> Self {
        let Spec { name, repeatable } = spec;
        let mut pipeline = Pipeline::with_capacity(calls.len());
        for call in calls {
            pipeline.add_command(call.0);
        }
        let head = Head { name, script: Some(summary), repeatable };
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
