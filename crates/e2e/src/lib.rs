//! Tests of the whole system through its network ports.
//!
//! [`System`] is one running forebay: token-server and pool-server as real
//! processes on a database of their own, cloned from a seeded template. The tests
//! in `tests/it` talk to it as a caller would, over gRPC and HTTP, and break its
//! backends under it. Run them by `cargo xtask test`.

mod collector;
mod http;
mod port;
mod service;
mod system;

pub use collector::{Collector, SpanRecord};
pub use http::get as http_get;
pub use port::free_port;
pub use service::ServiceProcess;
pub use system::{Backends, PoolClient, System, TokenClient};

/// Mint of USDC, 6 decimals.
pub const USDC: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";
/// Mint of wrapped SOL, 9 decimals.
pub const SOL: &str = "So11111111111111111111111111111111111111112";
/// Orca's SOL/USDC pool.
pub const SOL_USDC_POOL: &str = "EGZ7tiLeH62TPV1gL8WwbXGzEPa9zmcpVnnkPKKnrE2U";
/// Tokens in the seed data.
pub const SEEDED_TOKENS: usize = 13_053;
/// Pools in the seed data.
pub const SEEDED_POOLS: usize = 134;
