//! Errors as callers see them: a status whose details a program can read.
//!
//! Every status made here carries `google.rpc.ErrorInfo`; the other details
//! follow the code: all bad fields, what is missing, when to try again. A
//! message never carries SQL, addresses or the text of an inner error.

use std::error::Error as StdError;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

pub use tonic_types::{FieldViolation, PreconditionViolation, QuotaViolation};

pub use store::{RETRY_AFTER, outcome_unknown, postgres_status};

mod store;
#[cfg(test)]
mod tests;

/// Bytes of text that the bad fields of one status may have. Details travel in
/// a header, in base64, and clients refuse more than 8 KiB of headers.
const VIOLATION_BYTES_MAX: usize = 4096;
/// Bytes of one description; what exceeds it is cut.
const DESCRIPTION_BYTES_MAX: usize = 256;
/// Bytes that the encoding of one violation adds to its text, at most.
const VIOLATION_OVERHEAD_BYTES: usize = 8;
/// Bad fields that the message names; the details name the others.
const FIELDS_IN_MESSAGE_MAX: usize = 10;

/// One error under construction.
///
/// ```
/// use forebay_grpc::error::Problem;
/// let status = Problem::new(tonic::Code::Aborted, "token.forebay", "ETAG_STALE")
///     .message("the token changed since it was read")
///     .metadata("id", "0191")
///     .into_status();
/// assert_eq!(status.code(), tonic::Code::Aborted);
/// ```
#[derive(Debug, Clone)]
#[must_use = "a problem reaches nobody until it becomes a status"]
pub struct Problem {
    code: Code,
    message: String,
    reason: &'static str,
    domain: &'static str,
    metadata: Vec<(String, String)>,
    details: ErrorDetails,
}

impl Problem {
    /// Starts an error of `domain` (such as `token.forebay`) for `reason`
    /// (UPPER_SNAKE_CASE, up to 63 characters).
    pub fn new(code: Code, domain: &'static str, reason: &'static str) -> Self {
        Self {
            code,
            message: String::new(),
            reason,
            domain,
            metadata: Vec::new(),
            details: ErrorDetails::new(),
        }
    }

    /// Says in one sentence what happened, for a developer.
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// Adds one fact to `ErrorInfo.metadata`.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.push((key.into(), value.into()));
        self
    }

    /// Adds `RetryInfo`: trying again after `delay` may help.
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.details.set_retry_info(Some(delay));
        self
    }

    /// Adds `ResourceInfo`: which resource this is about.
    pub fn resource(mut self, kind: impl Into<String>, name: impl Into<String>) -> Self {
        self.details.set_resource_info(kind, name, "", "");
        self
    }

    /// Adds `BadRequest`: every bad field at once, as far as a header can carry them.
    pub fn fields(mut self, violations: Vec<FieldViolation>) -> Self {
        self.details.set_bad_request(within_a_header(violations));
        self
    }

    /// Adds `PreconditionFailure`.
    pub fn preconditions(mut self, violations: Vec<PreconditionViolation>) -> Self {
        self.details.set_precondition_failure(violations);
        self
    }

    /// Adds `QuotaFailure`.
    pub fn quotas(mut self, violations: Vec<QuotaViolation>) -> Self {
        self.details.set_quota_failure(violations);
        self
    }

    /// The status with its details encoded.
    pub fn into_status(mut self) -> Status {
        let metadata = self.metadata.into_iter().collect::<std::collections::HashMap<_, _>>();
        self.details.set_error_info(self.reason, self.domain, metadata);
        Status::with_error_details(self.code, self.message, self.details)
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        problem.into_status()
    }
}

/// INVALID_ARGUMENT that names every bad field.
pub fn invalid_argument(domain: &'static str, violations: Vec<FieldViolation>) -> Status {
    let named = violations.iter().take(FIELDS_IN_MESSAGE_MAX);
    let fields: Vec<&str> = named.map(|violation| violation.field.as_str()).collect();
    let more = if violations.len() > fields.len() { ", ..." } else { "" };
    let message = format!("the request has invalid fields: {}{more}", fields.join(", "));
    Problem::new(Code::InvalidArgument, domain, "INVALID_FIELDS")
        .message(message)
        .fields(violations)
        .into_status()
}

/// NOT_FOUND of the resource `name` of `kind`, such as `token`.
pub fn not_found(
    domain: &'static str,
    reason: &'static str,
    kind: &'static str,
    name: impl Into<String>,
) -> Status {
    Problem::new(Code::NotFound, domain, reason)
        .message(format!("there is no such {kind}"))
        .resource(kind, name)
        .into_status()
}

/// ALREADY_EXISTS: the resource `name` of `kind` is there.
pub fn already_exists(
    domain: &'static str,
    reason: &'static str,
    kind: &'static str,
    name: impl Into<String>,
) -> Status {
    Problem::new(Code::AlreadyExists, domain, reason)
        .message(format!("the {kind} exists already"))
        .resource(kind, name)
        .into_status()
}

/// ABORTED: somebody else was first; read again, then try again.
pub fn aborted(domain: &'static str, reason: &'static str, message: impl Into<String>) -> Status {
    Problem::new(Code::Aborted, domain, reason).message(message).into_status()
}

/// FAILED_PRECONDITION: the state of the system forbids it.
///
/// `subject` is what is in the wrong state, `description` how to mend it.
pub fn failed_precondition(
    domain: &'static str,
    reason: &'static str,
    subject: impl Into<String>,
    description: impl Into<String>,
) -> Status {
    let description = description.into();
    let violation = PreconditionViolation::new(reason, subject, description.clone());
    Problem::new(Code::FailedPrecondition, domain, reason)
        .message(description)
        .preconditions(vec![violation])
        .into_status()
}

/// UNAVAILABLE: a dependency is away or overloaded; try again after `retry_after`.
pub fn unavailable(domain: &'static str, reason: &'static str, retry_after: Duration) -> Status {
    Problem::new(Code::Unavailable, domain, reason)
        .message("the service cannot answer now, try again later")
        .retry_after(retry_after)
        .into_status()
}

/// RESOURCE_EXHAUSTED: `subject` went over a limit; `description` names it.
///
/// `retry_after` is for limits that refill with time.
pub fn resource_exhausted(
    domain: &'static str,
    reason: &'static str,
    subject: impl Into<String>,
    description: impl Into<String>,
    retry_after: Option<Duration>,
) -> Status {
    let description = description.into();
    let mut problem = Problem::new(Code::ResourceExhausted, domain, reason)
        .message(description.clone())
        .quotas(vec![QuotaViolation::new(subject, description)]);
    if let Some(delay) = retry_after {
        problem = problem.retry_after(delay);
    }
    problem.into_status()
}

/// DEADLINE_EXCEEDED: the caller's time is over.
pub fn deadline_exceeded(domain: &'static str) -> Status {
    Problem::new(Code::DeadlineExceeded, domain, "DEADLINE_EXCEEDED")
        .message("the deadline of the request passed before the answer was ready")
        .into_status()
}

/// INTERNAL: our fault; what happened is in our log and trace, not in the message.
pub fn internal(domain: &'static str) -> Status {
    Problem::new(Code::Internal, domain, "INTERNAL")
        .message("the service failed to handle the request")
        .into_status()
}

/// [`internal`] for an error that nobody expected: it goes to the log with its causes.
pub fn unexpected(domain: &'static str, error: &dyn StdError) -> Status {
    tracing::error!(error = chain(error), "the request failed");
    internal(domain)
}

/// The error and its causes in one line, for a log.
pub fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}

/// As many violations as a header can carry, and one more that counts the others.
fn within_a_header(mut violations: Vec<FieldViolation>) -> Vec<FieldViolation> {
    let mut bytes = 0;
    let mut kept = 0;
    for violation in &mut violations {
        cut(&mut violation.field);
        cut(&mut violation.description);
        bytes += violation.field.len() + violation.description.len() + VIOLATION_OVERHEAD_BYTES;
        if bytes > VIOLATION_BYTES_MAX {
            break;
        }
        kept += 1;
    }
    let left_out = violations.len() - kept;
    if left_out > 0 {
        violations.truncate(kept);
        violations.push(FieldViolation::new("*", format!("{left_out} more fields are invalid")));
    }
    violations
}

fn cut(text: &mut String) {
    text.truncate(text.floor_char_boundary(DESCRIPTION_BYTES_MAX));
}

/// A status is complete when it has details; this gives `ErrorInfo` to one that has none.
///
/// The code and the message stay. The reason is the name of the code.
pub(crate) fn with_error_info(code: Code, message: String, domain: &'static str) -> Status {
    Problem::new(code, domain, code_name(code)).message(message).into_status()
}

/// The name of a code as gRPC spells it, such as `NOT_FOUND`.
pub const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
