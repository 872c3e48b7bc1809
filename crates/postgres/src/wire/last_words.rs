//! What the server said when it ended a session in which nobody waited for an answer.

use std::sync::{Arc, OnceLock};

use crate::PgError;

/// Noted by the task that moves the bytes, for whoever finds the connection closed. Clones share it.
///
/// The driver ends with an error of the server only if every statement that was sent has been
/// answered: otherwise the error is the answer to the first that was not. So what finds these words
/// was never sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastWords(Arc<OnceLock<PgError>>);

impl LastWords {
    /// Keeps what the driver ended with, if the server said it.
    pub(crate) fn note(&self, end: tokio_postgres::Error) {
        let is_said = end.as_db_error().is_some();
        let error = PgError::from(end);
        if is_said && matches!(error, PgError::ConnectionLost { .. }) {
            self.0.get_or_init(|| error);
        }
    }

    /// Why the session was ended, if the server said so when nobody asked.
    pub(crate) fn heard(&self) -> Option<PgError> {
        self.0.get().cloned()
    }
}
