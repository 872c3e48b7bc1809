//! Reading `google.rpc` details out of a status.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Asserts the code, that ErrorInfo is there, and exactly which fields are named.
#[track_caller]
pub(crate) fn assert_invalid(status: &Status, fields: &[&str]) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.get_error_details();
    assert!(details.error_info().is_some(), "no ErrorInfo in {status:?}");
    let bad = details.bad_request().expect("an invalid argument has BadRequest");
    let mut named: Vec<_> = bad.field_violations.iter().map(|v| v.field.as_str()).collect();
    named.sort_unstable();
    assert_eq!(named, fields, "{status:?}");
    for violation in &bad.field_violations {
        assert!(!violation.description.is_empty(), "{violation:?}");
    }
}

/// Asserts the code and that ErrorInfo is there; returns its reason.
#[track_caller]
pub(crate) fn assert_error(status: &Status, code: Code) -> String {
    assert_eq!(status.code(), code, "{status:?}");
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert!(!info.reason.is_empty() && !info.domain.is_empty(), "{info:?}");
    info.reason.clone()
}

/// Asserts that the caller is told when to come back.
#[track_caller]
pub(crate) fn assert_retryable(status: &Status) {
    assert_error(status, Code::Unavailable);
    let details = status.get_error_details();
    let retry = details.retry_info().unwrap_or_else(|| panic!("no RetryInfo in {status:?}"));
    assert!(retry.retry_delay.is_some(), "{retry:?}");
}
