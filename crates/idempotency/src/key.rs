//! What identifies a request.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// A request: its method, the id its caller chose, and what it asks for.
///
/// The same id under two methods is two requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestKey {
    method: &'static str,
    request_id: Uuid,
    fingerprint: [u8; 32],
}

impl RequestKey {
    /// The request with this id for `method`, such as `forebay.token.v1.TokenService/CreateToken`.
    ///
    /// `request` is what it asks for, encoded the same way each time and
    /// without the id. Only its SHA-256 is kept.
    pub fn new(method: &'static str, request_id: Uuid, request: &[u8]) -> Self {
        Self { method, request_id, fingerprint: Sha256::digest(request).into() }
    }

    /// The method.
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// The id that the caller chose.
    pub fn request_id(&self) -> Uuid {
        self.request_id
    }

    /// SHA-256 of what it asks for.
    pub(crate) fn fingerprint(&self) -> &[u8] {
        &self.fingerprint
    }
}
