//! Collects every bad field of a request, so that a caller mends all of them at once.

use std::fmt::Display;

use tonic::Status;

use crate::error::{self, FieldViolation};

/// The bad fields found so far.
///
/// ```
/// use forebay_grpc::fields::FieldViolations;
/// let mut bad = FieldViolations::default();
/// let decimals = bad.take("decimals", u8::try_from(256_u32));
/// bad.add("mint", "must not be empty");
/// assert_eq!(decimals, None);
/// assert!(bad.finish("token.forebay").is_err());
/// ```
#[derive(Debug, Default)]
pub struct FieldViolations {
    violations: Vec<FieldViolation>,
}

impl FieldViolations {
    /// Notes that `field` is bad; `description` says what it must be.
    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.violations.push(FieldViolation::new(field, description));
    }

    /// The value, or `None` after noting why `field` has none.
    ///
    /// The text of the error goes to the caller, so it must speak of the value alone.
    pub fn take<T, E: Display>(
        &mut self,
        field: impl Into<String>,
        result: Result<T, E>,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.add(field, error.to_string());
                None
            }
        }
    }

    /// The value, or `None` after noting the violation it came with.
    pub fn absorb<T>(&mut self, result: Result<T, FieldViolation>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(violation) => {
                self.violations.push(violation);
                None
            }
        }
    }

    /// The value, or `None` after noting the violations it came with.
    pub fn absorb_all<T>(&mut self, result: Result<T, Vec<FieldViolation>>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(violations) => {
                self.violations.extend(violations);
                None
            }
        }
    }

    /// Whether no bad field was found.
    pub fn is_empty(&self) -> bool {
        self.violations.is_empty()
    }

    /// Ends the collection.
    ///
    /// # Errors
    /// INVALID_ARGUMENT with every bad field when there is one.
    pub fn finish(self, domain: &'static str) -> Result<(), Status> {
        if self.violations.is_empty() { Ok(()) } else { Err(self.into_status(domain)) }
    }

    /// INVALID_ARGUMENT with every bad field, for the `else` of a `let` that
    /// needs all of the values.
    pub fn into_status(self, domain: &'static str) -> Status {
        error::invalid_argument(domain, self.violations)
    }
}
