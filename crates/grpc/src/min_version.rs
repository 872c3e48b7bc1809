//! `x-forebay-min-version`: what a caller has seen already, so that it is shown nothing older.
//!
//! A write is answered with the version that it made, and a read that carries the header with the
//! newest version that it showed. Whoever sends the highest of them along reads his own writes, and
//! never goes back in time, whichever replica answers. Versions are numbers of one sequence, over all
//! rows of all tables, so one number stands for all that was seen. `0` says that nothing was seen yet.

use http::{HeaderMap, HeaderName};
use tonic::{Code, Response, Status};

use crate::context;
use crate::error::Problem;

/// Name of the header, of requests and of replies.
pub(crate) const MIN_VERSION: HeaderName = HeaderName::from_static(NAME);
/// The same as text.
pub(crate) const NAME: &str = "x-forebay-min-version";

/// The highest version that the caller of this request has seen; 0 if he does not say.
///
/// Clients of this crate send it on by themselves.
pub fn seen_version() -> i64 {
    context::current_min_version().unwrap_or(0)
}

/// The reply to a write that made `version`: its caller may demand from now on to see it.
pub fn wrote<T>(reply: T, version: i64) -> Response<T> {
    let mut response = Response::new(reply);
    response.metadata_mut().insert(NAME, version.into());
    response
}

/// The reply to a read that shows `version` at most. A caller who says what he has seen is told what
/// he sees.
pub fn showed<T>(reply: T, version: impl FnOnce() -> i64) -> Response<T> {
    match context::current_min_version() {
        Some(_) => wrote(reply, version()),
        None => Response::new(reply),
    }
}

/// The version in the headers of a request or a reply.
///
/// # Errors
/// [`NotAVersion`] if the header is there and is no version.
pub(crate) fn read(headers: &HeaderMap) -> Result<Option<i64>, NotAVersion> {
    let mut given = headers.get_all(MIN_VERSION).iter();
    let (Some(value), second) = (given.next(), given.next()) else { return Ok(None) };
    // One that another one contradicts says nothing.
    match parse(value.as_bytes()).filter(|_| second.is_none()) {
        Some(version) => Ok(Some(version)),
        None => Err(NotAVersion),
    }
}

/// Digits alone: no sign, no space.
fn parse(text: &[u8]) -> Option<i64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if is_number { str::from_utf8(text).ok()?.parse().ok() } else { None }
}

/// The header is no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAVersion;

impl NotAVersion {
    pub(crate) fn into_status(self, domain: &'static str) -> Status {
        Problem::new(Code::InvalidArgument, domain, "BAD_MIN_VERSION")
            .message(format!(
                "the {NAME} header must be given once, in digits: a version that a reply \
                 carried, or 0"
            ))
            .metadata("header", NAME)
            .into_status()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_version_is_digits_that_fit() {
        let read = |given: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in given {
                headers.append(MIN_VERSION, HeaderValue::from_str(value).expect("a header value"));
            }
            read(&headers)
        };
        assert_eq!(read(&[]), Ok(None));
        for (text, version) in [("0", 0), ("42", 42), ("007", 7), ("9223372036854775807", i64::MAX)]
        {
            assert_eq!(read(&[text]), Ok(Some(version)), "{text}");
        }
        for text in ["", "-1", "+1", "1.5", "1 ", "0x1", "v1", "9223372036854775808"] {
            assert_eq!(read(&[text]), Err(NotAVersion), "{text:?}");
        }
        assert_eq!(read(&["1", "2"]), Err(NotAVersion), "two of them");
    }

    #[test]
    fn a_reply_to_a_write_has_its_version_and_one_to_who_says_nothing_has_none() {
        let version =
            |response: Response<()>| super::read(&response.metadata().clone().into_headers());
        assert_eq!(version(wrote((), 9)), Ok(Some(9)));
        assert_eq!(version(showed((), || panic!("it is not asked for"))), Ok(None));
        assert_eq!(seen_version(), 0);
    }
}
