//! Every builder against what a caller decodes from the status.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{
    FieldViolation, aborted, already_exists, deadline_exceeded, failed_precondition, internal,
    invalid_argument, not_found, resource_exhausted, unavailable,
};

const DOMAIN: &str = "token.forebay";

/// Which details a status carries, by name, in a fixed order.
fn details(status: &Status) -> Vec<&'static str> {
    let details = status.get_error_details();
    let mut names = Vec::new();
    let mut note = |present: bool, name| {
        if present {
            names.push(name);
        }
    };
    note(details.error_info().is_some(), "ErrorInfo");
    note(details.bad_request().is_some(), "BadRequest");
    note(details.retry_info().is_some(), "RetryInfo");
    note(details.resource_info().is_some(), "ResourceInfo");
    note(details.quota_failure().is_some(), "QuotaFailure");
    note(details.precondition_failure().is_some(), "PreconditionFailure");
    names
}

fn check(status: &Status, code: Code, reason: &str, expected: &[&str]) {
    assert_eq!(status.code(), code);
    assert!(!status.message().is_empty(), "{reason} has no message");
    assert_eq!(details(status), expected, "{reason}");
    let info = status.get_details_error_info().expect("every error has ErrorInfo");
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, DOMAIN));
}

#[test]
fn every_builder_has_the_details_of_its_code() {
    let second = Duration::from_secs(1);
    check(
        &invalid_argument(DOMAIN, vec![FieldViolation::new("mint", "must be base58")]),
        Code::InvalidArgument,
        "INVALID_FIELDS",
        &["ErrorInfo", "BadRequest"],
    );
    check(
        &not_found(DOMAIN, "TOKEN_NOT_FOUND", "token", "x"),
        Code::NotFound,
        "TOKEN_NOT_FOUND",
        &["ErrorInfo", "ResourceInfo"],
    );
    check(
        &already_exists(DOMAIN, "MINT_TAKEN", "token", "x"),
        Code::AlreadyExists,
        "MINT_TAKEN",
        &["ErrorInfo", "ResourceInfo"],
    );
    check(&aborted(DOMAIN, "ETAG_STALE", "stale"), Code::Aborted, "ETAG_STALE", &["ErrorInfo"]);
    check(
        &failed_precondition(DOMAIN, "TOKEN_IN_USE", "token/x", "delete its pools first"),
        Code::FailedPrecondition,
        "TOKEN_IN_USE",
        &["ErrorInfo", "PreconditionFailure"],
    );
    check(
        &unavailable(DOMAIN, "STORE_UNAVAILABLE", second),
        Code::Unavailable,
        "STORE_UNAVAILABLE",
        &["ErrorInfo", "RetryInfo"],
    );
    check(
        &resource_exhausted(DOMAIN, "TOO_MANY", "ip:1", "100 a minute", Some(second)),
        Code::ResourceExhausted,
        "TOO_MANY",
        &["ErrorInfo", "RetryInfo", "QuotaFailure"],
    );
    check(&deadline_exceeded(DOMAIN), Code::DeadlineExceeded, "DEADLINE_EXCEEDED", &["ErrorInfo"]);
    check(&internal(DOMAIN), Code::Internal, "INTERNAL", &["ErrorInfo"]);
}

#[test]
fn names_every_bad_field() {
    let violations = vec![
        FieldViolation::new("mint", "must be base58"),
        FieldViolation::new("decimals", "must be at most 255"),
    ];
    let status = invalid_argument(DOMAIN, violations);
    let bad = status.get_details_bad_request().expect("BadRequest");
    let fields: Vec<_> = bad.field_violations.iter().map(|one| one.field.as_str()).collect();
    assert_eq!(fields, ["mint", "decimals"]);
    assert_eq!(status.message(), "the request has invalid fields: mint, decimals");
}

#[test]
fn a_thousand_bad_fields_fit_into_a_header() {
    let violations = (0..1000)
        .map(|at| FieldViolation::new(format!("ids[{at}]"), "must be a UUID ".repeat(100)))
        .collect();
    let status = invalid_argument(DOMAIN, violations);
    let headers = status.details().len() * 4 / 3 + status.message().len();
    assert!(headers < 7 * 1024, "{headers} bytes of headers");
    let bad = status.get_details_bad_request().expect("BadRequest").field_violations;
    let (last, named) = bad.split_last().expect("not empty");
    assert_eq!(named[0].field, "ids[0]");
    assert_eq!(last.description, format!("{} more fields are invalid", 1000 - named.len()));
}
