//! Page sizes and page tokens of list methods.
//!
//! A token is the cursor of the next row and a signature over the method, the
//! filter and the cursor. A token that was changed, made up, or given with
//! another filter or to another method is refused as a bad `page_token`:
//! following it would skip or repeat rows without anybody noticing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use forebay_config::Secret;
use hmac::{Hmac, KeyInit, Mac};
use prost::Message;
use sha2::{Digest, Sha256};

use crate::error::FieldViolation;

#[cfg(test)]
mod tests;

/// Rows of a page when the caller does not say.
pub const PAGE_SIZE_DEFAULT: usize = 50;
/// Rows of a page at most; a larger wish is cut to it.
pub const PAGE_SIZE_MAX: usize = 1000;

/// Longest token that is looked at, in bytes. Our own are far shorter.
const TOKEN_BYTES_MAX: usize = 4096;
/// First byte of every token, so that the format may change.
const FORMAT: u8 = 1;
/// Bytes of HMAC-SHA256.
const MAC_BYTES: usize = 32;

/// How many rows a page has: 0 means [`PAGE_SIZE_DEFAULT`], more than
/// [`PAGE_SIZE_MAX`] means that.
///
/// # Errors
/// A negative size is a violation of `page_size`.
pub fn page_size(asked: i32) -> Result<usize, FieldViolation> {
    match usize::try_from(asked) {
        Ok(0) => Ok(PAGE_SIZE_DEFAULT),
        Ok(size) => Ok(size.min(PAGE_SIZE_MAX)),
        Err(_) => Err(FieldViolation::new("page_size", "must not be negative")),
    }
}

/// What a page token is bound to: one method and one filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of `filter` given to `method`. No filter is the same as an empty one.
    pub fn new<M: Message>(method: &str, filter: Option<&M>) -> Self {
        let mut hash = Sha256::new();
        // The method cannot hold a zero byte, so the two parts cannot run together.
        hash.update(method.as_bytes());
        hash.update([0]);
        if let Some(filter) = filter {
            hash.update(filter.encode_to_vec());
        }
        Self(hash.finalize().into())
    }
}

/// Makes and checks page tokens with one key, which all replicas share.
#[derive(Clone)]
pub struct PageTokens {
    mac: Hmac<Sha256>,
}

impl std::fmt::Debug for PageTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageTokens").finish_non_exhaustive()
    }
}

impl PageTokens {
    /// Signs with `key`; any length is taken, 32 random bytes are right.
    pub fn new(key: &Secret) -> Self {
        let mac = Hmac::<Sha256>::new_from_slice(key.expose().as_bytes())
            .expect("HMAC takes keys of any length");
        Self { mac }
    }

    /// The token of the page after `cursor`.
    pub fn encode(&self, bound_to: Fingerprint, cursor: &[u8]) -> String {
        let mut token = Vec::with_capacity(1 + MAC_BYTES + cursor.len());
        token.push(FORMAT);
        token.extend_from_slice(&self.signing(bound_to, cursor).finalize().into_bytes());
        token.extend_from_slice(cursor);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// The cursor in `token`; `None` for the empty token, which means the first page.
    ///
    /// # Errors
    /// A violation of `page_token` when we did not make this token for this
    /// method and filter.
    pub fn decode(
        &self,
        bound_to: Fingerprint,
        token: &str,
    ) -> Result<Option<Vec<u8>>, FieldViolation> {
        if token.is_empty() {
            return Ok(None);
        }
        self.verified(bound_to, token).map(Some).ok_or_else(|| {
            FieldViolation::new(
                "page_token",
                "must be the next_page_token of a page of the same method and filter",
            )
        })
    }

    fn verified(&self, bound_to: Fingerprint, token: &str) -> Option<Vec<u8>> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (format, rest) = bytes.split_first()?;
        if *format != FORMAT {
            return None;
        }
        let (mac, cursor) = rest.split_at_checked(MAC_BYTES)?;
        // `verify_slice` compares in constant time.
        self.signing(bound_to, cursor).verify_slice(mac).ok()?;
        Some(cursor.to_vec())
    }

    fn signing(&self, bound_to: Fingerprint, cursor: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(&[FORMAT]);
        mac.update(&bound_to.0);
        mac.update(cursor);
        mac
    }
}
