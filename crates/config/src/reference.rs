//! The reference as data: every key with its default, what it accepts, its meaning and where the
//! default comes from. `cargo xtask codegen` makes a page of it.

use std::collections::BTreeMap;

use crate::layers::Layers;
use crate::load::DEFAULTS;
use crate::reader::Reader;
use crate::sections::Config;

/// What comes before the source of a default, at the end of the comment above its key.
const SOURCE_MARK: &str = "Source: ";

/// One key of the reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Dotted key; what differs for one service is under `service.NAME.`.
    pub key: String,
    /// The default as TOML.
    pub default: String,
    /// What values are accepted, with their unit and range, as the reading code says it.
    pub accepts: String,
    /// What it is for.
    pub meaning: String,
    /// Where the default comes from; empty when the reference does not say.
    pub source: String,
}

/// Every key, in the order of the reference file.
pub fn reference() -> Vec<Reference> {
    let accepted = accepted();
    let mut found = Vec::new();
    let (mut section, mut comment) = (String::new(), Vec::new());
    for line in DEFAULTS.lines() {
        if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim());
        } else if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
            comment.clear();
        } else if let Some((name, default)) = line.split_once(" = ") {
            let key = format!("{section}.{name}");
            // `service.NAME.grpc.listen` accepts what `grpc.listen` does.
            let read = key.strip_prefix("service.").and_then(|rest| rest.split_once('.'));
            let read = read.map_or(key.as_str(), |(_, key)| key);
            let accepts = accepted.get(read).cloned().unwrap_or_default();
            let (meaning, source) = split(&comment);
            found.push(Reference { key, default: default.to_owned(), accepts, meaning, source });
            comment.clear();
        } else {
            comment.clear();
        }
    }
    found
}

/// What each key accepts, by the code that reads it.
fn accepted() -> BTreeMap<String, String> {
    let layers = Layers::of_defaults(DEFAULTS, "");
    let mut reader = Reader::new(&layers);
    // Read for what the reader notes on the way; the values are the defaults.
    let _defaults = Config::read(&mut reader, &mut Vec::new());
    reader.accepted
}

/// The meaning and the source in a comment. The source may go over several lines.
fn split(comment: &[&str]) -> (String, String) {
    let mark = comment.iter().position(|line| line.starts_with(SOURCE_MARK));
    let (meaning, source) = comment.split_at(mark.unwrap_or(comment.len()));
    let source = source.join(" ");
    (meaning.join(" "), source.strip_prefix(SOURCE_MARK).unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails when a key is added without saying what it is for, or why its default is what it is.
    #[test]
    fn every_default_has_a_meaning_a_source_and_a_range() {
        let keys = reference();
        assert!(keys.len() > 40, "{}", keys.len());
        for Reference { key, default, accepts, meaning, source } in &keys {
            for part in [default, accepts, meaning, source] {
                assert!(!part.is_empty(), "{key}: {default} | {accepts} | {meaning} | {source}");
            }
            assert!(!source.ends_with("chosen."), "{key}: chosen, and why?");
        }
    }

    #[test]
    fn the_backends_own_values_were_kept() {
        let default = |key: &str| {
            let of_key = reference().into_iter().find(|one| one.key == key).expect(key);
            assert!(of_key.source.starts_with("connection pooling document"), "{of_key:?}");
            of_key.default
        };
        for (key, expected) in [
            ("redis.retries_max", "3"),
            ("redis.connect_timeout", "\"10s\""),
            ("redis.keep_alive", "\"30s\""),
            ("redis.backoff_max", "\"3s\""),
            ("cache.token.ttl", "\"1h\""),
            ("cache.pool.ttl", "\"10m\""),
        ] {
            assert_eq!(default(key), expected, "{key}");
        }
    }

    #[test]
    fn the_range_is_the_one_that_is_checked() {
        let keys = reference();
        let accepts = |key: &str| keys.iter().find(|one| one.key == key).expect(key);
        assert_eq!(accepts("redis.retries_max").accepts, "a whole number, 0 to 100");
        assert!(accepts("redis.keep_alive").accepts.ends_with("1s to 2h"), "{keys:?}");
        let listen = accepts("service.pool-server.grpc.listen");
        assert_eq!(listen.accepts, accepts("grpc.listen").accepts);
    }
}
