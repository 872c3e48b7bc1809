//! Typed reading of the values in force, collecting every problem on the way.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Value;
use url::Url;

use crate::duration;
use crate::error::Problem;
use crate::layers::{Entry, Layers, Raw};
use crate::secret::{SECRET_KEYS, Secret};
use crate::setting::Setting;
use crate::source::Source;
use crate::store_url;

/// Reads settings by key. A reading method answers `None` after it noted a problem, so
/// a section reads all of its fields before it gives up.
pub(crate) struct Reader<'a> {
    layers: &'a Layers,
    pub(crate) settings: Vec<Setting>,
    pub(crate) problems: Vec<Problem>,
    /// What each key accepts.
    pub(crate) accepted: BTreeMap<String, String>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(layers: &'a Layers) -> Self {
        Self { layers, settings: Vec::new(), problems: Vec::new(), accepted: BTreeMap::new() }
    }

    /// The layer that gave the value in force.
    pub(crate) fn source(&self, key: &str) -> Option<Source> {
        self.layers.get(key).map(|entry| entry.source.clone())
    }

    /// Notes a problem that is seen only when several settings are compared.
    pub(crate) fn refuse(&mut self, key: &str, expected: String) {
        self.problems.push(Problem::new(key, self.source(key), expected));
    }

    /// Any text up to a length in bytes.
    pub(crate) fn text(&mut self, key: &str, bytes_max: usize) -> Option<String> {
        let expected = format!("expected text of at most {bytes_max} bytes");
        self.string(key, &expected, |text| {
            (text.len() <= bytes_max).then(|| (quote(text), text.to_owned()))
        })
    }

    /// A duration within bounds.
    pub(crate) fn duration(
        &mut self,
        key: &str,
        bounds: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let [from, to] = [*bounds.start(), *bounds.end()].map(duration::format);
        let expected = format!("expected a duration such as \"250ms\" or \"10s\", {from} to {to}");
        self.string(key, &expected, |text| {
            let value = duration::parse(text).filter(|value| bounds.contains(value))?;
            Some((quote(&duration::format(value)), value))
        })
    }

    /// A whole number within bounds.
    pub(crate) fn integer<T>(&mut self, key: &str, bounds: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + Display + Copy,
    {
        let expected = format!("expected a whole number, {} to {}", bounds.start(), bounds.end());
        self.value(key, &expected, |raw| {
            let number = match raw {
                Raw::Text(text) => text.replace('_', "").parse().ok()?,
                Raw::Toml(Value::Integer(number)) => *number,
                Raw::Toml(_) => return None,
            };
            let number = T::try_from(number).ok().filter(|number| bounds.contains(number))?;
            Some((number.to_string(), number))
        })
    }

    /// A share from 0 to 1.
    pub(crate) fn ratio(&mut self, key: &str) -> Option<f64> {
        self.number(key, 0.0..=1.0)
    }

    /// A number within bounds, whole or not.
    pub(crate) fn number(&mut self, key: &str, bounds: RangeInclusive<f64>) -> Option<f64> {
        let expected = format!("expected a number from {:?} to {:?}", bounds.start(), bounds.end());
        self.value(key, &expected, |raw| {
            let number = match raw {
                Raw::Text(text) => text.parse().ok()?,
                Raw::Toml(Value::Float(number)) => *number,
                Raw::Toml(Value::Integer(number)) => f64::from(i32::try_from(*number).ok()?),
                Raw::Toml(_) => return None,
            };
            bounds.contains(&number).then(|| (format!("{number:?}"), number))
        })
    }

    /// Yes or no.
    pub(crate) fn boolean(&mut self, key: &str) -> Option<bool> {
        self.value(key, "expected true or false", |raw| {
            let value = match raw {
                Raw::Text(text) => text.parse().ok()?,
                Raw::Toml(value) => value.as_bool()?,
            };
            Some((value.to_string(), value))
        })
    }

    /// An address to listen on.
    pub(crate) fn address(&mut self, key: &str) -> Option<SocketAddr> {
        let expected = "expected ip:port, such as 127.0.0.1:50051 or [::]:50051";
        self.string(key, expected, |text| {
            let address: SocketAddr = text.parse().ok()?;
            Some((quote(text), address))
        })
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<String> = choices.iter().map(|(word, _)| quote(word)).collect();
        let expected = format!("expected {}", words.join(" or "));
        self.string(key, &expected, |text| {
            let (word, value) = choices.iter().find(|(word, _)| *word == text)?;
            Some((quote(word), *value))
        })
    }

    /// The URL of an HTTP/2 peer without a path, `http://host:port`.
    pub(crate) fn endpoint(&mut self, key: &str) -> Option<String> {
        self.string(key, ENDPOINT_EXPECTED, endpoint)
    }

    /// Like [`Reader::endpoint`]; empty text means that there is none.
    pub(crate) fn optional_endpoint(&mut self, key: &str) -> Option<Option<String>> {
        self.string(key, &format!("{ENDPOINT_EXPECTED}, or nothing"), |text| {
            if text.is_empty() {
                return Some((quote(text), None));
            }
            endpoint(text).map(|(shown, endpoint)| (shown, Some(endpoint)))
        })
    }

    /// The URL of a store, which is a secret because of its password.
    pub(crate) fn store_url(&mut self, key: &str, schemes: &[&str], form: &str) -> Option<Secret> {
        self.accept(key, &format!("expected {form}"));
        let text = self.secret_text(key)?;
        match store_url::redacted(&text, schemes, form) {
            Ok(shown) => {
                self.show(key, quote(&shown));
                Some(Secret::new(text))
            }
            Err(expected) => {
                self.refuse(key, expected);
                None
            }
        }
    }

    /// Like [`Reader::store_url`], for any number of URLs with spaces between them.
    pub(crate) fn store_urls(
        &mut self,
        key: &str,
        schemes: &[&str],
        form: &str,
        count_max: usize,
    ) -> Option<Vec<Secret>> {
        let several = format!("at most {count_max} of them with spaces between, or nothing");
        self.accept(key, &format!("expected {form}, {several}"));
        let text = self.secret_text(key)?;
        let urls: Vec<_> = text.split_whitespace().collect();
        let shown: Result<Vec<_>, _> =
            urls.iter().map(|url| store_url::redacted(url, schemes, form)).collect();
        match shown {
            Ok(shown) if shown.len() <= count_max => {
                self.show(key, quote(&shown.join(" ")));
                Some(urls.into_iter().map(Secret::new).collect())
            }
            Ok(_) => {
                self.refuse(key, format!("expected URLs of the form {form}, {several}"));
                None
            }
            Err(expected) => {
                self.refuse(key, format!("{expected}, {several}"));
                None
            }
        }
    }

    /// The text of a secret, which the caller must [`Reader::show`] without the secret.
    pub(crate) fn secret_text(&mut self, key: &str) -> Option<String> {
        debug_assert!(SECRET_KEYS.contains(&key), "{key} must be in SECRET_KEYS");
        match self.layers.get(key).map(|entry| &entry.raw) {
            Some(Raw::Text(text) | Raw::Toml(Value::String(text))) => Some(text.clone()),
            Some(Raw::Toml(_)) | None => {
                self.refuse(key, "expected text".to_owned());
                None
            }
        }
    }

    /// Lists a setting in the form in which it may be shown.
    pub(crate) fn show(&mut self, key: &str, value: String) {
        if let Some(source) = self.source(key) {
            self.settings.push(Setting { key: key.to_owned(), value, source });
        }
    }

    /// Notes what a key accepts, in the words of the problem with any other value.
    pub(crate) fn accept(&mut self, key: &str, expected: &str) {
        let accepts = expected.strip_prefix("expected ").unwrap_or(expected);
        self.accepted.insert(key.to_owned(), accepts.to_owned());
    }

    fn string<T>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<(String, T)>,
    ) -> Option<T> {
        self.value(key, expected, |raw| match raw {
            Raw::Text(text) | Raw::Toml(Value::String(text)) => parse(text),
            Raw::Toml(_) => None,
        })
    }

    /// Reads one value that is no secret. `parse` gives its shown form and itself.
    fn value<T>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&Raw) -> Option<(String, T)>,
    ) -> Option<T> {
        self.accept(key, expected);
        let Some(Entry { raw, source }) = self.layers.get(key) else {
            self.problems.push(Problem::new(key, None, format!("{expected}; it is missing")));
            return None;
        };
        match parse(raw) {
            Some((shown, value)) => {
                self.show(key, shown);
                Some(value)
            }
            None => {
                let found = match raw {
                    Raw::Text(text) => quote(text),
                    Raw::Toml(value) => value.to_string(),
                };
                let problem = Problem::new(key, Some(source.clone()), expected);
                // A URL with credentials in a place that takes none is not repeated.
                let secret = found.contains("://") && found.contains('@');
                self.problems.push(if secret { problem } else { problem.with_found(&found) });
                None
            }
        }
    }
}

const ENDPOINT_EXPECTED: &str = "expected http://host:port without user, path or query";

fn endpoint(text: &str) -> Option<(String, String)> {
    let url = Url::parse(text).ok()?;
    let plain = url.scheme() == "http"
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none();
    plain.then(|| (quote(text), text.trim_end_matches('/').to_owned()))
}

fn quote(text: &str) -> String {
    Value::from(text).to_string()
}
