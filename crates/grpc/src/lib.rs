//! The gRPC kit: server, client, errors with details, pages, masks, etags.
//!
//! Guarantees:
//! - Every error that leaves [`Server`] carries `google.rpc.ErrorInfo`, also
//!   the ones no handler made: an unknown method, a message over the limit, a
//!   panic, a deadline that passed.
//! - A handler runs under a [`forebay_pooling::Deadline`], and [`client`]
//!   passes what is left of it on to the next service.
//! - A trace that comes in goes on: the span of each call continues the
//!   caller's `traceparent` and is the parent of what the handler does.
//! - A caller's `x-forebay-min-version` reaches the handler ([`seen_version`]) and the services
//!   that it calls; one that is no version is refused before the handler runs.
//! - A stop ends: after the drain timeout the connections that are left are
//!   closed, whatever their clients do.
//!
//! Failure modes: a server that cannot listen says so at once
//! ([`ServeError`]); a peer that is away is UNAVAILABLE, after bounded
//! attempts when the call is marked [`client::Idempotent`].
//!
//! ```no_run
//! # async fn example(config: &forebay_config::GrpcConfig) -> Result<(), forebay_grpc::ServeError> {
//! let server = forebay_grpc::Server::new(config, "token-server");
//! let health = server.health();
//! let bound = server.bind().await?;
//! health.set_serving(true).await;
//! bound.serve(std::future::pending()).await;
//! # Ok(())
//! # }
//! ```

pub mod client;
mod context;
pub mod error;
pub mod etag;
pub mod fields;
pub mod mask;
mod min_version;
pub mod page;
pub mod request_id;
mod server;
mod timeout;
mod trace;

pub use context::current_request_id;
pub use min_version::{seen_version, showed, wrote};
pub use server::health::Health;
pub use server::{Bound, ServeError, Server};
