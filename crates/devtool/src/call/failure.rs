//! A failed call in words: the code, the message, and every `google.rpc` detail decoded.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use prost_types::Any;
use tonic::{Code, Status};

/// One line for the status, one for each detail.
pub(super) fn describe(status: &Status) -> String {
    let mut text = format!("{}: {}\n", name(status.code()), status.message());
    let details = tonic_types::pb::Status::decode(status.details()).unwrap_or_default().details;
    let pool = DescriptorPool::decode(tonic_types::pb::FILE_DESCRIPTOR_SET).unwrap_or_default();
    for detail in &details {
        let kind = detail.type_url.rsplit(['/', '.']).next().unwrap_or_default();
        let shown = decoded(&pool, detail)
            .unwrap_or_else(|| format!("{} (not decoded)", STANDARD.encode(&detail.value)));
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "  {kind} {shown}");
    }
    text
}

fn decoded(pool: &DescriptorPool, detail: &Any) -> Option<String> {
    let message = pool.get_message_by_name(detail.type_url.rsplit('/').next()?)?;
    let value = DynamicMessage::decode(message, detail.value.as_slice()).ok()?;
    serde_json::to_string(&value).ok()
}

/// The code as the specification spells it.
fn name(code: Code) -> &'static str {
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
