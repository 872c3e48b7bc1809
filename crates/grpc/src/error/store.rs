//! What callers hear of a store that failed.

use std::error::Error as StdError;
use std::time::Duration;

use forebay_pooling::Deadline;
use forebay_postgres::PgError;
use tonic::{Code, Status};

use super::{Problem, chain, deadline_exceeded, unavailable, unexpected};

/// What a caller waits before a repetition when nothing tells better.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The status of a statement about a `resource`, such as `token`, that failed with `error`, of which
/// `whole` tells more.
///
/// # Example
/// ```
/// use forebay_grpc::error::postgres_status;
/// use forebay_postgres::PgError;
///
/// let status = postgres_status("token.forebay", "token", &PgError::Draining, &PgError::Draining);
/// assert_eq!(status.code(), tonic::Code::Unavailable);
/// ```
pub fn postgres_status(
    domain: &'static str,
    resource: &str,
    error: &PgError,
    whole: &dyn StdError,
) -> Status {
    match error {
        PgError::Timeout { .. } | PgError::StatementTimeout { .. } if out_of_time() => {
            deadline_exceeded(domain)
        }
        PgError::Shed { .. }
        | PgError::Timeout { .. }
        | PgError::StatementTimeout { .. }
        | PgError::Draining
        | PgError::Unreachable { .. }
        | PgError::ServerSlots { .. }
        | PgError::Pooler { .. }
        | PgError::Auth { .. }
        | PgError::UnknownDatabase { .. }
        | PgError::Tls { .. }
        | PgError::ConnectionLost { .. }
        // Of a commit it has its own status; any other statement changed nothing without one.
        | PgError::UnknownOutcome { .. }
        | PgError::ReadOnly { .. } => {
            tracing::warn!(error.type = error.kind(), error = chain(whole), "the store is unavailable");
            let retry_after = error.retry_after().unwrap_or(RETRY_AFTER);
            unavailable(domain, "STORE_UNAVAILABLE", retry_after)
        }
        PgError::Serialization { .. } | PgError::LockTimeout { .. } => {
            Problem::new(Code::Aborted, domain, "CONCURRENT_CHANGE")
                .message(format!("the {resource} is being changed by another request, try again"))
                .retry_after(error.retry_after().unwrap_or(RETRY_AFTER))
                .into_status()
        }
        PgError::InvalidUrl { .. }
        | PgError::UniqueViolation { .. }
        | PgError::ForeignKeyViolation { .. }
        | PgError::CheckViolation { .. }
        | PgError::TransactionFailed
        | PgError::RowCount { .. }
        | PgError::SessionStatement { .. }
        | PgError::CustomType { .. }
        | PgError::Database { .. }
        | PgError::Mismatch { .. } => unexpected(domain, whole),
    }
}

/// The status of a write whose commit got no answer. A write is repeatable if its request has an id.
pub fn outcome_unknown(domain: &'static str, is_repeatable: bool, error: &PgError) -> Status {
    tracing::warn!(
        error.type = error.kind(),
        error = chain(error),
        "the outcome of a write is unknown"
    );
    let problem = Problem::new(Code::Unavailable, domain, "OUTCOME_UNKNOWN");
    let problem = if is_repeatable {
        problem
            .message("the write may have happened, repeat it with the same request_id")
            .retry_after(error.retry_after().unwrap_or(RETRY_AFTER))
    } else {
        // A repetition could undo what others wrote since, so nobody is invited to it.
        problem.message("the write may have happened, read what is there before repeating it")
    };
    problem.into_status()
}

/// Whether the caller's own deadline has passed, so that the time was theirs and not ours.
fn out_of_time() -> bool {
    Deadline::current().is_some_and(|deadline| deadline.has_passed())
}
