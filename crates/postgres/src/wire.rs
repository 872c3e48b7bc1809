//! One connection: its address, its stream, its statements, and what was sent and answered.

pub(crate) mod answer;
pub(crate) mod connection;
pub(crate) mod cut_off;
pub(crate) mod dsn;
pub(crate) mod failure;
pub(crate) mod last_words;
pub(crate) mod statements;
pub(crate) mod stream;
pub(crate) mod tls;
