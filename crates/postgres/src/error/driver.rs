//! What an error of the driver is about.
//!
//! The driver keeps the kinds of its errors private, so its words are all
//! there is. Tests beside this file and in `tests/it` hold them fast.

use tokio_postgres::error::{DbError, Severity};

/// Whether the server ended the session along with the statement.
pub(crate) fn is_fatal(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error().map(DbError::parsed_severity) {
        Some(severity) => matches!(severity, Some(Severity::Fatal | Severity::Panic)),
        None => is_lost(error),
    }
}

/// Whether the driver itself refused the statement, before anything was sent.
pub(crate) fn was_not_sent(error: &tokio_postgres::Error) -> bool {
    let words = error.to_string();
    ["error serializing parameter", "expected ", "error encoding message"]
        .iter()
        .any(|start| words.starts_with(start))
}

/// Whether the connection is gone and the server said nothing.
pub(super) fn is_lost(error: &tokio_postgres::Error) -> bool {
    let is_io =
        std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>());
    // Malformed messages carry an io error too, yet they come from a mismatch between the two sides.
    error.is_closed() || (is_io && error.to_string() == "error communicating with the server")
}

/// Whether the encrypted connection could not be made.
pub(super) fn is_tls(error: &tokio_postgres::Error) -> bool {
    error.to_string() == "error performing TLS handshake"
}
