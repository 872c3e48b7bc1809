//! Public keys of Solana: 32 bytes, written in base58.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Characters of the longest text that is decoded at all.
///
/// Decoding base58 takes time quadratic in its length, and 32 bytes never need more than 44
/// characters: the rest only serves to tell a caller how many bytes they have sent.
const TEXT_MAX: usize = 128;

/// A public key: 32 bytes that print as base58.
///
/// ```
/// use forebay_model::{ParsePublicKeyError, PublicKey};
///
/// let system: PublicKey = "11111111111111111111111111111111".parse()?;
/// assert_eq!(system.as_bytes(), &[0; 32]);
/// assert_eq!("O0".parse::<PublicKey>(), Err(ParsePublicKeyError::NotBase58 { at: 0 }));
/// # Ok::<(), ParsePublicKeyError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key of these bytes. Any 32 bytes are an address, on the curve or not.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Why a text is not a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ParsePublicKeyError {
    /// A character is not of the base58 alphabet.
    #[error("is not base58: unexpected character at byte {at}")]
    NotBase58 {
        /// Byte offset of the first such character.
        at: usize,
    },
    /// The text is base58 of another number of bytes.
    #[error("must be base58 of 32 bytes, is of {bytes}")]
    WrongLength {
        /// Number of bytes it decodes to.
        bytes: usize,
    },
    /// The text is far too long to be decoded.
    #[error("must be base58 of 32 bytes, which takes at most 44 characters, not {chars}")]
    TooLong {
        /// Number of characters.
        chars: usize,
    },
}

impl FromStr for PublicKey {
    type Err = ParsePublicKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Checked by hand first, because the decoder reports a full buffer before it has seen
        // a bad character behind it.
        if let Some(at) = text.bytes().position(|byte| !is_base58(byte)) {
            return Err(ParsePublicKeyError::NotBase58 { at });
        }
        if text.len() > TEXT_MAX {
            return Err(ParsePublicKeyError::TooLong { chars: text.len() });
        }
        let mut buffer = [0; TEXT_MAX];
        // Base58 never decodes to more bytes than it has characters, so the buffer suffices and
        // the alphabet was checked: a failure could only be a bad character at the start.
        let bytes = bs58::decode(text)
            .onto(&mut buffer)
            .map_err(|_| ParsePublicKeyError::NotBase58 { at: 0 })?;
        match <[u8; 32]>::try_from(&buffer[..bytes]) {
            Ok(key) => Ok(Self(key)),
            Err(_) => Err(ParsePublicKeyError::WrongLength { bytes }),
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buffer = [0; 44];
        let length = bs58::encode(&self.0).onto(&mut buffer[..]).map_err(|_| fmt::Error)?;
        let text = std::str::from_utf8(&buffer[..length]).map_err(|_| fmt::Error)?;
        f.pad(text)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether the byte is of the Bitcoin alphabet: no `0`, `O`, `I`, `l`.
fn is_base58(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() && !matches!(byte, b'0' | b'O' | b'I' | b'l')
}

#[cfg(test)]
mod tests;
