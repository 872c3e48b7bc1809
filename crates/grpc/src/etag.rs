//! Etags: an opaque name of one version of a resource.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::FieldViolation;

/// First byte of every etag, so that the format may change.
const FORMAT: u8 = 1;

/// The etag of `version`.
pub fn encode(version: i64) -> String {
    let mut bytes = [FORMAT; 9];
    bytes[1..].copy_from_slice(&version.to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The version that `etag` names; `None` for the empty etag, which guards nothing.
///
/// # Errors
/// A violation of `field` when this is no etag of ours. One of another version
/// is not an error here: comparing it is the caller's part, and ABORTED its answer.
pub fn parse(field: &str, etag: &str) -> Result<Option<i64>, FieldViolation> {
    if etag.is_empty() {
        return Ok(None);
    }
    let version = URL_SAFE_NO_PAD.decode(etag).ok().and_then(|bytes| {
        let (format, version) = bytes.split_first()?;
        let version = <[u8; 8]>::try_from(version).ok()?;
        (*format == FORMAT).then(|| i64::from_be_bytes(version))
    });
    match version {
        Some(version) => Ok(Some(version)),
        None => Err(FieldViolation::new(field, "must be the etag of a reply, unchanged")),
    }
}

#[cfg(test)]
mod tests {
    use super::{encode, parse};

    #[test]
    fn names_a_version_and_nothing_else() {
        for version in [0, 1, 42, -1, i64::MAX, i64::MIN] {
            let parsed = parse("etag", &encode(version)).expect("our own");
            assert_eq!(parsed, Some(version));
        }
        assert_eq!(parse("etag", "").expect("no guard"), None);
        for bad in ["x", "42", "AQ", "AgAAAAAAAAAq", "AQAAAAAAAAAqAA", "\u{e9}"] {
            let violation = parse("token.etag", bad).expect_err(bad);
            assert_eq!(violation.field, "token.etag", "{bad}");
        }
    }
}
