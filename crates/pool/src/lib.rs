//! The liquidity-pool service: pools by id, by address, in batches and in pages.
//!
//! Reads of pools, of batches and of lists go through the two-level cache; writes go to Postgres,
//! which alone holds the truth. A pool names its two tokens by mint; which tokens those are is the
//! token service's to say, and it is asked over gRPC.
//!
//! Guarantees:
//! - A write that was answered is seen by every later read of this process, and by reads of
//!   other processes within their staleness bound: the cache is told after each commit, even
//!   when the caller has gone by then.
//! - A write with a request id takes effect once and is answered the same each time.
//! - An invalid request is answered with all of its bad fields and changes nothing.
//! - The mints of a pool never change, and neither does the mint of a token in use, so a cached
//!   pool is never wrong about them.
//! - Cached pools are never encoded again: a reply takes the bytes that the cache holds
//!   ([`forebay_proto::pool::v1_stored`]). They are copied once in this process, into the frame
//!   that goes out.
//!
//! Failure modes: without Redis everything works, slower. Without Postgres cached pools are
//! still served; everything else is UNAVAILABLE with the time after which to try again. Without
//! the token service pools cannot be created nor listed by token; all other calls work. When the
//! answer to a commit is lost the reason is OUTCOME_UNKNOWN, and only a write with a request id is
//! told to try again.
//!
//! ```no_run
//! # async fn serve(config: &forebay_config::Config) -> Result<(), Box<dyn std::error::Error>> {
//! let postgres = forebay_postgres::PgPool::new(&config.postgres, "pool-server")?;
//! let redis = forebay_redis::RedisPool::new(&config.redis)?;
//! let cache = forebay_cache::Cache::new(&config.cache, postgres.clone(), redis);
//! let mints = forebay_pool::MintResolver::new(forebay_grpc::client::connect(&config.token_client)?);
//! let key = &config.grpc.page_token_key;
//! let service = forebay_pool::PoolService::new(postgres, &cache, &config.cache.pool, mints, key);
//! let server = forebay_grpc::Server::new(&config.grpc, "pool-server");
//! server.add(forebay_pool::server(service)).serve(std::future::pending()).await?;
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
mod resolve;
mod service;
mod store;
mod validate;

pub use entity::{PoolByAddress, PoolById};
pub use error::{Error, StoreError};
pub use grpc::{DOMAIN, server};
pub use resolve::{MintResolver, ResolveError};
pub use service::PoolService;
