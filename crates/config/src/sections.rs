//! The sections of the settings, one file each.

pub(crate) mod cache;
pub(crate) mod grpc;
pub(crate) mod ops;
pub(crate) mod postgres;
pub(crate) mod redis;
pub(crate) mod telemetry;

/// All settings of one process. Only `boot` and the binaries see it whole.
#[derive(Debug, Clone)]
pub struct Config {
    /// The gRPC server.
    pub grpc: grpc::GrpcConfig,
    /// How to reach the token service.
    pub token_client: grpc::GrpcClientConfig,
    /// The HTTP port for operators.
    pub ops: ops::OpsConfig,
    /// Traces, metrics and logs.
    pub telemetry: telemetry::TelemetryConfig,
    /// The Postgres connection pool.
    pub postgres: postgres::PostgresConfig,
    /// The Redis connection pool.
    pub redis: redis::RedisConfig,
    /// The two-level cache.
    pub cache: cache::CacheConfig,
}
