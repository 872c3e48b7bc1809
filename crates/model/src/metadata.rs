//! What else may be known about a token: its logo, labels and further facts.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::TextError;
use crate::text::check_label;

/// Bytes of a logo's address at most.
pub const LOGO_URI_BYTES_MAX: usize = 2048;
/// Tags of one token at most.
pub const TAGS_MAX: usize = 32;
/// Characters of one tag at most.
pub const TAG_CHARS_MAX: usize = 64;
/// Extensions of one token at most.
pub const EXTENSIONS_MAX: usize = 64;
/// Characters of an extension's key at most.
pub const EXTENSION_KEY_CHARS_MAX: usize = 64;
/// Bytes of an extension's value at most.
pub const EXTENSION_VALUE_BYTES_MAX: usize = 4096;

/// Address of a logo image, up to [`LOGO_URI_BYTES_MAX`] bytes; empty when unknown.
///
/// Not parsed as a URI: real ones are malformed, and we only pass them on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogoUri(Box<str>);

impl LogoUri {
    /// The address, unchanged.
    ///
    /// # Errors
    ///
    /// When it is too long or holds U+0000.
    pub fn new(text: impl Into<Box<str>>) -> Result<Self, LogoUriError> {
        let text = text.into();
        if text.len() > LOGO_URI_BYTES_MAX {
            return Err(LogoUriError::TooLong { bytes: text.len() });
        }
        if text.contains('\0') {
            return Err(LogoUriError::Nul);
        }
        Ok(Self(text))
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address, taken out.
    pub fn into_string(self) -> String {
        self.0.into()
    }
}

/// Why a text is not the address of a logo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LogoUriError {
    /// It has too many bytes.
    #[error("must have at most {LOGO_URI_BYTES_MAX} bytes, has {bytes}")]
    TooLong {
        /// Number of bytes.
        bytes: usize,
    },
    /// It holds U+0000, which Postgres cannot store.
    #[error("must not contain the character U+0000")]
    Nul,
}

/// Free labels of a token: up to [`TAGS_MAX`] of 1 to [`TAG_CHARS_MAX`] characters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tags(Vec<String>);

impl Tags {
    /// These labels, unchanged.
    ///
    /// # Errors
    ///
    /// When there are too many, or everything that is no label.
    pub fn new(tags: Vec<String>) -> Result<Self, Vec<TagsError>> {
        if tags.len() > TAGS_MAX {
            return Err(vec![TagsError::TooMany { count: tags.len() }]);
        }
        let errors: Vec<TagsError> = tags
            .iter()
            .enumerate()
            .filter_map(|(at, tag)| {
                let cause = check_label(tag, TAG_CHARS_MAX).err()?;
                Some(TagsError::Tag { at, cause })
            })
            .collect();
        if errors.is_empty() { Ok(Self(tags)) } else { Err(errors) }
    }

    /// The labels.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    /// The labels, taken out.
    pub fn into_vec(self) -> Vec<String> {
        self.0
    }
}

/// Why labels are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TagsError {
    /// There are too many.
    #[error("must be at most {TAGS_MAX}, are {count}")]
    TooMany {
        /// Number of labels.
        count: usize,
    },
    /// One of them is not a label.
    #[error("the tag at {at} is refused")]
    Tag {
        /// Its position, from 0.
        at: usize,
        /// Why.
        #[source]
        cause: TextError,
    },
}

/// Further facts about a token: up to [`EXTENSIONS_MAX`] pairs of texts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extensions(BTreeMap<String, String>);

impl Extensions {
    /// These facts, unchanged.
    ///
    /// # Errors
    ///
    /// When there are too many, or every bad key and value.
    pub fn new(facts: BTreeMap<String, String>) -> Result<Self, Vec<ExtensionsError>> {
        if facts.len() > EXTENSIONS_MAX {
            return Err(vec![ExtensionsError::TooMany { count: facts.len() }]);
        }
        let mut errors = Vec::new();
        for (key, value) in &facts {
            if let Err(cause) = check_label(key, EXTENSION_KEY_CHARS_MAX) {
                errors.push(ExtensionsError::Key { key: key.clone(), cause });
            }
            if value.len() > EXTENSION_VALUE_BYTES_MAX {
                let bytes = value.len();
                errors.push(ExtensionsError::ValueTooLong { key: key.clone(), bytes });
            }
            if value.contains('\0') {
                errors.push(ExtensionsError::ValueNul { key: key.clone() });
            }
        }
        if errors.is_empty() { Ok(Self(facts)) } else { Err(errors) }
    }

    /// The facts.
    pub fn as_map(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// The facts, taken out.
    pub fn into_map(self) -> BTreeMap<String, String> {
        self.0
    }
}

/// Why further facts are refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ExtensionsError {
    /// There are too many.
    #[error("must be at most {EXTENSIONS_MAX}, are {count}")]
    TooMany {
        /// Number of pairs.
        count: usize,
    },
    /// A key is empty, too long or cannot be stored.
    #[error("the key {key:?} is refused")]
    Key {
        /// The key.
        key: String,
        /// Why.
        #[source]
        cause: TextError,
    },
    /// A value has too many bytes.
    #[error(
        "the value of {key:?} must have at most {EXTENSION_VALUE_BYTES_MAX} bytes, has {bytes}"
    )]
    ValueTooLong {
        /// Its key.
        key: String,
        /// Number of bytes.
        bytes: usize,
    },
    /// A value holds U+0000, which Postgres cannot store.
    #[error("the value of {key:?} must not contain the character U+0000")]
    ValueNul {
        /// Its key.
        key: String,
    },
}
