//! What a server answered, without the driver's types.

use bb8_redis::redis::Value;
use bytes::Bytes;

use crate::RedisError;

/// An answer of the server.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// No value.
    Nil,
    /// An integer.
    Int(i64),
    /// A string of bytes.
    Bytes(Bytes),
    /// A status such as `OK`.
    Status(String),
    /// Several answers.
    List(Vec<Reply>),
    /// Any other type of the protocol, by name: none of our commands is answered with one.
    Other(&'static str),
}

impl Reply {
    pub(crate) fn from_value(value: Value) -> Self {
        match value {
            Value::Nil => Self::Nil,
            Value::Int(number) => Self::Int(number),
            Value::BulkString(bytes) => Self::Bytes(Bytes::from(bytes)),
            Value::SimpleString(text) => Self::Status(text),
            Value::Okay => Self::Status("OK".to_owned()),
            Value::Array(values) | Value::Set(values) => {
                Self::List(values.into_iter().map(Self::from_value).collect())
            }
            Value::VerbatimString { text, .. } => Self::Bytes(Bytes::from(text)),
            Value::Map(pairs) => Self::List(
                pairs
                    .into_iter()
                    .flat_map(|(key, value)| [Self::from_value(key), Self::from_value(value)])
                    .collect(),
            ),
            Value::Attribute { data, .. } => Self::from_value(*data),
            Value::Boolean(_) => Self::Other("a boolean"),
            Value::Double(_) => Self::Other("a double"),
            Value::BigNumber(_) => Self::Other("a big number"),
            Value::Push { .. } => Self::Other("a push message"),
            Value::ServerError(_) => Self::Other("an error"),
            _ => Self::Other("an unknown type"),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Int(_) => "an integer",
            Self::Bytes(_) => "a string",
            Self::Status(_) => "a status",
            Self::List(_) => "a list",
            Self::Other(name) => name,
        }
    }

    fn unexpected(&self, command: &'static str, expected: &'static str) -> RedisError {
        RedisError::UnexpectedReply { command, expected, found: self.name() }
    }

    pub(crate) fn into_int(self, command: &'static str) -> Result<i64, RedisError> {
        match self {
            Self::Int(number) => Ok(number),
            other => Err(other.unexpected(command, "an integer")),
        }
    }

    pub(crate) fn into_optional_bytes(
        self,
        command: &'static str,
    ) -> Result<Option<Bytes>, RedisError> {
        match self {
            Self::Nil => Ok(None),
            Self::Bytes(bytes) => Ok(Some(bytes)),
            other => Err(other.unexpected(command, "a string or nil")),
        }
    }

    pub(crate) fn into_list(self, command: &'static str) -> Result<Vec<Reply>, RedisError> {
        match self {
            Self::List(items) => Ok(items),
            other => Err(other.unexpected(command, "a list")),
        }
    }
}
