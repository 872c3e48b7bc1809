//! Texts with a bounded length, kept exactly as given.

use std::fmt;

use thiserror::Error;

/// Why a text is not a value of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TextError {
    /// It has no characters.
    #[error("must not be empty")]
    Empty,
    /// It has too many characters.
    #[error("must have at most {max} characters, has {chars}")]
    TooLong {
        /// Number of characters (Unicode scalar values).
        chars: usize,
        /// The largest number allowed.
        max: usize,
    },
    /// It holds U+0000, which Postgres cannot store.
    #[error("must not contain the character U+0000")]
    Nul,
}

/// Checks that `text` has 1 to `max` characters and none of them is U+0000.
pub(crate) fn check_label(text: &str, max: usize) -> Result<(), TextError> {
    if text.is_empty() {
        return Err(TextError::Empty);
    }
    let chars = text.chars().count();
    if chars > max {
        return Err(TextError::TooLong { chars, max });
    }
    if text.contains('\0') {
        return Err(TextError::Nul);
    }
    Ok(())
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $max:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// Characters at most.
            pub const CHARS_MAX: usize = $max;

            /// The value of this text, unchanged.
            ///
            /// # Errors
            ///
            /// When the text is empty, too long or holds U+0000.
            pub fn new(text: impl Into<Box<str>>) -> Result<Self, TextError> {
                let text = text.into();
                check_label(&text, Self::CHARS_MAX)?;
                Ok(Self(text))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text, taken out.
            pub fn into_string(self) -> String {
                self.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

text! {
    /// Ticker symbol of a token. Not unique: anyone can mint "USDC".
    Symbol, 64
}
text! {
    /// Display name of a token.
    TokenName, 128
}
text! {
    /// Display name of a liquidity pool.
    PoolName, 128
}

#[cfg(test)]
mod tests;
