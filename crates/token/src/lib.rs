//! The token service: fungible tokens by id, by mint, in batches and in pages.
//!
//! Reads of tokens, of batches and of lists go through the two-level cache; writes go to Postgres,
//! which alone holds the truth.
//!
//! Guarantees:
//! - A write that was answered is seen by every later read of this process, and by reads of
//!   other processes within their staleness bound: the cache is told after each commit, even
//!   when the caller has gone by then.
//! - A write with a request id takes effect once and is answered the same each time.
//! - An invalid request is answered with all of its bad fields and changes nothing.
//! - Cached tokens are never encoded again: a reply takes the bytes that the cache holds
//!   ([`forebay_proto::token::v1_stored`]). They are copied once in this process, into the frame
//!   that goes out.
//!
//! Failure modes: without Redis everything works, slower. Without Postgres cached tokens are
//! still served; everything else is UNAVAILABLE with the time after which to try again.
//! When the answer to a commit is lost the reason is OUTCOME_UNKNOWN, and only a write with a
//! request id is told to try again.
//!
//! ```no_run
//! # async fn serve(config: &forebay_config::Config) -> Result<(), Box<dyn std::error::Error>> {
//! let postgres = forebay_postgres::PgPool::new(&config.postgres, "token-server")?;
//! let redis = forebay_redis::RedisPool::new(&config.redis)?;
//! let cache = forebay_cache::Cache::new(&config.cache, postgres.clone(), redis);
//! let key = &config.grpc.page_token_key;
//! let service = forebay_token::TokenService::new(postgres, &cache, &config.cache.token, key);
//! let server = forebay_grpc::Server::new(&config.grpc, "token-server");
//! server.add(forebay_token::server(service)).serve(std::future::pending()).await?;
//! # Ok(())
//! # }
//! ```

mod convert;
mod entity;
mod error;
mod grpc;
mod list;
mod loader;
mod pages;
mod service;
mod store;
mod validate;

pub use entity::{TokenById, TokenByMint};
pub use error::{Error, StoreError};
pub use grpc::{DOMAIN, server};
pub use service::TokenService;
