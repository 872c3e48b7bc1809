//! What one caller has seen, so that it is never shown anything older.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use http::HeaderMap;
use tonic::metadata::MetadataMap;

use crate::min_version;

/// The highest version that a caller has seen. Clones share it.
///
/// All calls of one session read what it has written, and never anything older than what it has read,
/// whichever replica answers. [`Channel::with_session`](super::Channel::with_session) keeps it by
/// itself; with another client it takes [`Session::request`] and [`Session::has_seen`].
///
/// ```
/// use forebay_grpc::client::Session;
/// let session = Session::default();
/// let request = session.request("a message");
/// assert_eq!(request.metadata().get("x-forebay-min-version").expect("sent"), "0");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Session(Arc<AtomicI64>);

impl Session {
    /// The highest version seen so far; 0 if none was.
    pub fn version(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    /// A request that says what was seen.
    pub fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert(min_version::NAME, self.version().into());
        request
    }

    /// Remembers what the metadata of a reply, or of a status, says was seen.
    pub fn has_seen(&self, metadata: &MetadataMap) {
        self.has_seen_headers(metadata.as_ref());
    }

    /// Forgets what was seen: after MIN_VERSION_UNKNOWN, when the database lost what it had answered.
    pub fn forget(&self) {
        self.0.store(0, Ordering::SeqCst);
    }

    pub(super) fn has_seen_headers(&self, headers: &HeaderMap) {
        // A peer that says nothing one can read has shown nothing.
        if let Ok(Some(version)) = min_version::read(headers) {
            self.0.fetch_max(version, Ordering::SeqCst);
        }
    }
}
