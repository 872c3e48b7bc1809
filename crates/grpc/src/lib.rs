//! The gRPC kit: server, client, errors with details, pages, masks, etags.

pub mod error;
pub mod etag;
pub mod fields;
pub mod mask;
pub mod page;
pub mod request_id;
