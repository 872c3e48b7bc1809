//! Typed settings, layered from defaults, file, environment and flags.
//!
//! Every component takes one section, never the whole [`Config`], so a
//! signature shows what can affect it.

mod sections;

pub use secret::Secret;
pub use sections::Config;
pub use sections::cache::{CacheConfig, EntityCacheConfig};
pub use sections::grpc::{GrpcClientConfig, GrpcConfig};
pub use sections::ops::OpsConfig;
pub use sections::postgres::PostgresConfig;
pub use sections::redis::RedisConfig;
pub use sections::telemetry::{LogFormat, TelemetryConfig};

mod secret;
