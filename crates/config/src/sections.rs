//! The sections of the settings, one file each.

pub(crate) mod cache;
pub(crate) mod grpc;
pub(crate) mod ops;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod redis;
pub(crate) mod telemetry;

use crate::reader::Reader;

/// All settings of one process. Only `boot` and the binaries see it whole.
#[derive(Debug, Clone)]
pub struct Config {
    /// The life of the process itself.
    pub process: process::ProcessConfig,
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

impl Config {
    /// Reads every section before giving up, so that all problems are found.
    pub(crate) fn read(reader: &mut Reader<'_>, warnings: &mut Vec<String>) -> Option<Self> {
        let process = process::ProcessConfig::read(reader);
        let grpc = grpc::GrpcConfig::read(reader, warnings);
        let token_client = grpc::GrpcClientConfig::read(reader);
        let ops = ops::OpsConfig::read(reader);
        let telemetry = telemetry::TelemetryConfig::read(reader);
        let postgres = postgres::PostgresConfig::read(reader);
        let redis = redis::RedisConfig::read(reader);
        let cache = cache::CacheConfig::read(reader);
        Some(Self {
            process: process?,
            grpc: grpc?,
            token_client: token_client?,
            ops: ops?,
            telemetry: telemetry?,
            postgres: postgres?,
            redis: redis?,
            cache: cache?,
        })
    }
}
