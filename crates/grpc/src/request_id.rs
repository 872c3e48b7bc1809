//! Request ids that make a write repeatable.

use uuid::Uuid;

use crate::error::FieldViolation;

/// The UUID in `request_id`; `None` for the empty text, which asks for no protection.
///
/// # Errors
/// A violation of `request_id` when it is neither empty nor a UUID, or the nil UUID,
/// which many callers would share by mistake.
pub fn parse(request_id: &str) -> Result<Option<Uuid>, FieldViolation> {
    if request_id.is_empty() {
        return Ok(None);
    }
    match Uuid::try_parse(request_id) {
        Ok(id) if !id.is_nil() => Ok(Some(id)),
        Ok(_) | Err(_) => Err(FieldViolation::new("request_id", "must be a UUID other than nil")),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn takes_uuids_and_nothing_else() {
        let id = "0198c0de-0000-7000-8000-000000000001";
        let parsed = parse(id).expect("a UUID").expect("not empty");
        assert_eq!(parsed.to_string(), id);
        assert_eq!(parse("").expect("no protection"), None);
        for bad in ["x", "0198c0de", "00000000-0000-0000-0000-000000000000"] {
            assert_eq!(parse(bad).expect_err(bad).field, "request_id", "{bad}");
        }
    }
}
