//! Names of exchanges.

use std::fmt;

use thiserror::Error;

/// Name of an exchange in lower case, such as `orca`: 1 to 32 of `[a-z0-9_-]`.
///
/// ```
/// use forebay_model::{Dex, DexError};
///
/// assert_eq!(Dex::new("orca").map(|dex| dex.to_string()), Ok("orca".to_owned()));
/// assert_eq!(Dex::new("Orca"), Err(DexError::Character { at: 0 }));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dex(Box<str>);

/// Why a text is not the name of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DexError {
    /// It has no characters.
    #[error("must not be empty")]
    Empty,
    /// It has too many characters.
    #[error("must have at most {} characters, has {chars}", Dex::CHARS_MAX)]
    TooLong {
        /// Number of characters.
        chars: usize,
    },
    /// A character is not of `[a-z0-9_-]`.
    #[error("must consist of a-z, 0-9, '_' and '-': unexpected character at byte {at}")]
    Character {
        /// Byte offset of the first such character.
        at: usize,
    },
}

impl Dex {
    /// Characters at most.
    pub const CHARS_MAX: usize = 32;

    /// The exchange of this name.
    ///
    /// # Errors
    ///
    /// When the name is empty, too long or has another character.
    pub fn new(name: impl Into<Box<str>>) -> Result<Self, DexError> {
        let name = name.into();
        if name.is_empty() {
            return Err(DexError::Empty);
        }
        if let Some(at) = name.bytes().position(|byte| !is_name_byte(byte)) {
            return Err(DexError::Character { at });
        }
        if name.len() > Self::CHARS_MAX {
            return Err(DexError::TooLong { chars: name.len() });
        }
        Ok(Self(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Dex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

fn is_name_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-')
}
