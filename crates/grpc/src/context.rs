//! What a call carries besides its message: the request id, and what its caller has seen.

use std::future::Future;

use http::{HeaderName, HeaderValue};
use uuid::Uuid;

use crate::trace;

/// Name of the header that ties the log lines of one request together.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken from a caller, in bytes. It goes into every log line.
const REQUEST_ID_BYTES_MAX: usize = 128;

tokio::task_local! {
    static CURRENT: Carried;
}

/// What the request carries that this task serves.
#[derive(Debug, Clone)]
pub(crate) struct Carried {
    pub(crate) request_id: HeaderValue,
    /// The highest version that the caller has seen, if he says so.
    pub(crate) min_version: Option<i64>,
}

/// The id of the request that this task serves, if it serves one.
///
/// Clients of this crate send it on by themselves.
pub fn current_request_id() -> Option<HeaderValue> {
    CURRENT.try_with(|carried| carried.request_id.clone()).ok()
}

pub(crate) fn current_min_version() -> Option<i64> {
    CURRENT.try_with(|carried| carried.min_version).ok().flatten()
}

/// Runs `future` as part of the request that carries this.
pub(crate) fn scope<F: Future>(carried: Carried, future: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(carried, future)
}

/// The caller's id when it is fit to be logged, else a new one.
pub(crate) fn accept_or_generate(given: Option<&HeaderValue>) -> HeaderValue {
    match given {
        Some(id) if is_loggable(id.as_bytes()) => trace::unique(id.clone()),
        Some(_) | None => generate(),
    }
}

/// A new id: a UUID of version 7, so that ids sort by time.
pub(crate) fn generate() -> HeaderValue {
    let mut text = Uuid::encode_buffer();
    let text = Uuid::now_v7().hyphenated().encode_lower(&mut text);
    trace::unique(HeaderValue::from_str(text).expect("a UUID is visible ASCII"))
}

/// The text of an id; ids come from [`accept_or_generate`], so this never fails in practice.
pub(crate) fn text(id: &HeaderValue) -> &str {
    id.to_str().unwrap_or_default()
}

fn is_loggable(id: &[u8]) -> bool {
    (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::accept_or_generate;

    #[test]
    fn takes_short_visible_ids_and_replaces_others() {
        let long = "x".repeat(129);
        for (given, taken) in [("abc-1", true), ("", false), ("a b", false), (&long, false)] {
            let given = HeaderValue::from_str(given).expect("a header value");
            assert_eq!(accept_or_generate(Some(&given)) == given, taken, "{given:?}");
        }
        assert_ne!(accept_or_generate(None), accept_or_generate(None));
    }
}
