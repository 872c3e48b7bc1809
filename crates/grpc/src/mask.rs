//! Update masks: which fields an update changes.

use prost_types::FieldMask;

use crate::error::FieldViolation;

#[cfg(test)]
mod tests;

/// Name of the mask field in requests.
const FIELD: &str = "update_mask";

/// The fields that an update changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateMask {
    chosen: Chosen,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Chosen {
    /// No mask was given: the fields that are set.
    Set,
    /// `*`: every field that may change.
    All,
    /// Exactly these.
    Named(Vec<&'static str>),
}

impl UpdateMask {
    /// Reads `mask`; `allowed` are the paths that may change.
    ///
    /// An absent or empty mask means the fields that are set, `*` all of them.
    ///
    /// # Errors
    /// One violation of `update_mask` for each path that is not in `allowed`,
    /// and one when `*` does not stand alone.
    pub fn parse(
        mask: Option<&FieldMask>,
        allowed: &'static [&'static str],
    ) -> Result<Self, Vec<FieldViolation>> {
        let paths = mask.map_or(&[][..], |mask| mask.paths.as_slice());
        let chosen = match paths {
            [] => Chosen::Set,
            [only] if only == "*" => Chosen::All,
            _ => Chosen::Named(named(paths, allowed)?),
        };
        Ok(Self { chosen })
    }

    /// Whether the update changes `path`; `is_set` tells whether the request
    /// carries a value for it, which decides when there is no mask.
    pub fn includes(&self, path: &str, is_set: bool) -> bool {
        match &self.chosen {
            Chosen::Set => is_set,
            Chosen::All => true,
            Chosen::Named(paths) => paths.contains(&path),
        }
    }
}

fn named(
    paths: &[String],
    allowed: &'static [&'static str],
) -> Result<Vec<&'static str>, Vec<FieldViolation>> {
    let mut found = Vec::with_capacity(paths.len());
    let mut violations = Vec::new();
    for path in paths {
        if path == "*" {
            violations.push(FieldViolation::new(FIELD, "\"*\" must stand alone"));
            continue;
        }
        match allowed.iter().find(|known| *known == path) {
            Some(known) => found.push(*known),
            None => violations.push(FieldViolation::new(
                FIELD,
                format!(
                    "{path:?} is not a field that can change; use {} or \"*\"",
                    allowed.join(", ")
                ),
            )),
        }
    }
    if violations.is_empty() { Ok(found) } else { Err(violations) }
}
