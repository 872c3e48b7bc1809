//! The service itself.

use std::time::Duration;

use forebay_boot::Process;
use forebay_cache::{Cache, Cleared, InspectError, LevelEntry};
use forebay_grpc::error;
use forebay_grpc::fields::FieldViolations;
use forebay_postgres::PgPool;
use forebay_proto::ops::v1 as pb;
use forebay_proto::ops::v1::ops_service_server::{OpsService as Contract, OpsServiceServer};
use forebay_redis::RedisPool;
use forebay_telemetry::TelemetryError;
use tonic::{Request, Response, Status};

use crate::stats;

/// Domain of the errors of this service.
pub const DOMAIN: &str = "ops.forebay";

/// When to ask again while Redis is away.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Answers for one process. Name everything of it that can be looked at.
#[derive(Debug)]
pub struct OpsService {
    process: Process,
    postgres: Vec<Resizable>,
    redis: Vec<RedisPool>,
    cache: Option<Cache>,
}

/// A connection pool and its largest size.
#[derive(Debug)]
struct Resizable {
    pool: PgPool,
    connections_max: u32,
}

impl OpsService {
    /// A service that knows the settings and the log filter of `process`.
    pub fn new(process: &Process) -> Self {
        Self { process: process.clone(), postgres: Vec::new(), redis: Vec::new(), cache: None }
    }

    /// Shows a Postgres connection pool too.
    #[must_use]
    pub fn postgres(mut self, pool: &PgPool) -> Self {
        // Nobody has resized it yet: this is the setting, and the most there can ever be.
        let connections_max = pool.stats().connections_max;
        self.postgres.push(Resizable { pool: pool.clone(), connections_max });
        self
    }

    /// Shows a Redis connection pool too.
    #[must_use]
    pub fn redis(mut self, pool: &RedisPool) -> Self {
        self.redis.push(pool.clone());
        self
    }

    /// Shows the entries of `cache`.
    #[must_use]
    pub fn cache(mut self, cache: &Cache) -> Self {
        self.cache = Some(cache.clone());
        self
    }

    /// The gRPC server of this service.
    pub fn server(self) -> OpsServiceServer<Self> {
        // `grpc.request_bytes_max` is the limit, and the kit holds every message to it.
        OpsServiceServer::new(self).max_decoding_message_size(usize::MAX)
    }

    fn resizable(&self, request: &pb::SetConnectionPoolLimitsRequest) -> Result<&PgPool, Status> {
        let mut bad = FieldViolations::default();
        let pools = self.postgres.iter().map(|one| (one.pool.stats().name, one));
        let pools: Vec<_> = pools.collect();
        let found = pools.iter().find(|(name, _)| *name == request.name);
        match found {
            Some((_, Resizable { pool, connections_max })) => {
                if (1..=*connections_max).contains(&request.max_connections) {
                    return Ok(pool);
                }
                let bounds =
                    format!("must be 1 to {connections_max}, the setting postgres.connections_max");
                bad.add("max_connections", bounds);
            }
            None => {
                let names: Vec<_> = pools.iter().map(|(name, _)| name.as_str()).collect();
                bad.add("name", format!("must be one of {}", names.join(", ")));
            }
        }
        Err(bad.into_status(DOMAIN))
    }

    fn cache_of_process(&self) -> Result<&Cache, Status> {
        self.cache.as_ref().ok_or_else(|| {
            error::failed_precondition(DOMAIN, "NO_CACHE", "cache", "this process has no cache")
        })
    }

    fn entry(
        &self,
        entry: Option<pb::CacheEntryKey>,
    ) -> Result<(&Cache, pb::CacheEntryKey), Status> {
        let mut bad = FieldViolations::default();
        let entry = entry.unwrap_or_default();
        if entry.entity.is_empty() {
            bad.add("entry.entity", "must name an entity, such as \"token\"");
        }
        if entry.key.is_empty() {
            bad.add("entry.key", "must not be empty");
        }
        bad.finish(DOMAIN)?;
        Ok((self.cache_of_process()?, entry))
    }
}

#[tonic::async_trait]
impl Contract for OpsService {
    async fn get_connection_pools(
        &self,
        _: Request<pb::GetConnectionPoolsRequest>,
    ) -> Result<Response<pb::GetConnectionPoolsResponse>, Status> {
        let postgres = self.postgres.iter().map(|one| stats::postgres(&one.pool));
        let redis = self.redis.iter().map(|pool| stats::redis(pool.stats()));
        Ok(Response::new(pb::GetConnectionPoolsResponse {
            postgres: postgres.collect(),
            redis: redis.collect(),
        }))
    }

    async fn set_connection_pool_limits(
        &self,
        request: Request<pb::SetConnectionPoolLimitsRequest>,
    ) -> Result<Response<pb::SetConnectionPoolLimitsResponse>, Status> {
        let request = request.into_inner();
        let pool = self.resizable(&request)?;
        let previous_max_connections = pool.stats().connections_max;
        let max_connections = pool.resize(request.max_connections);
        tracing::info!(
            pool = request.name,
            max_connections,
            previous_max_connections,
            "connection pool resized"
        );
        Ok(Response::new(pb::SetConnectionPoolLimitsResponse {
            previous_max_connections,
            max_connections,
        }))
    }

    async fn get_effective_config(
        &self,
        _: Request<pb::GetEffectiveConfigRequest>,
    ) -> Result<Response<pb::GetEffectiveConfigResponse>, Status> {
        let mut settings: Vec<_> = self
            .process
            .settings
            .iter()
            .map(|setting| pb::Setting {
                key: setting.key.clone(),
                value: setting.value.clone(),
                source: setting.source.to_string(),
            })
            .collect();
        settings.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(Response::new(pb::GetEffectiveConfigResponse { settings }))
    }

    async fn inspect_cache_entry(
        &self,
        request: Request<pb::InspectCacheEntryRequest>,
    ) -> Result<Response<pb::InspectCacheEntryResponse>, Status> {
        let (cache, entry) = self.entry(request.into_inner().entry)?;
        let inspected = cache.inspect(&entry.entity, &entry.key).await.map_err(refusal)?;
        Ok(Response::new(pb::InspectCacheEntryResponse {
            l1: inspected.l1.map(level),
            l2: inspected.l2.map(level),
        }))
    }

    async fn evict_cache_entry(
        &self,
        request: Request<pb::EvictCacheEntryRequest>,
    ) -> Result<Response<pb::EvictCacheEntryResponse>, Status> {
        let (cache, entry) = self.entry(request.into_inner().entry)?;
        cache.evict(&entry.entity, &entry.key).await.map_err(refusal)?;
        tracing::info!(entity = entry.entity, key = entry.key, "cache entry evicted");
        Ok(Response::new(pb::EvictCacheEntryResponse {}))
    }

    async fn get_cache_stats(
        &self,
        _: Request<pb::GetCacheStatsRequest>,
    ) -> Result<Response<pb::GetCacheStatsResponse>, Status> {
        Ok(Response::new(stats::cache(self.cache_of_process()?.stats())))
    }

    async fn clear_cache(
        &self,
        request: Request<pb::ClearCacheRequest>,
    ) -> Result<Response<pb::ClearCacheResponse>, Status> {
        let entity = request.into_inner().entity;
        let named = Some(entity.as_str()).filter(|entity| !entity.is_empty());
        let Cleared { l1_entries, confirmed } = self
            .cache_of_process()?
            .clear(named)
            .await
            .map_err(|refused| refusal_of(refused, "entity"))?;
        tracing::info!(entity = named.unwrap_or("all"), l1_entries, confirmed, "cache cleared");
        Ok(Response::new(pb::ClearCacheResponse { l1_entries, confirmed }))
    }

    async fn get_log_level(
        &self,
        _: Request<pb::GetLogLevelRequest>,
    ) -> Result<Response<pb::GetLogLevelResponse>, Status> {
        let filter = self.process.telemetry.log_filter();
        Ok(Response::new(pb::GetLogLevelResponse { filter }))
    }

    async fn set_log_level(
        &self,
        request: Request<pb::SetLogLevelRequest>,
    ) -> Result<Response<pb::SetLogLevelResponse>, Status> {
        let filter = request.into_inner().filter;
        let mut bad = FieldViolations::default();
        if filter.trim().is_empty() {
            // An empty filter would silence the process.
            bad.add("filter", "must not be empty; \"off\" silences the process");
        }
        bad.finish(DOMAIN)?;
        let telemetry = &self.process.telemetry;
        let previous_filter = telemetry.log_filter();
        telemetry.set_log_filter(&filter).map_err(|error| bad_filter(&error))?;
        tracing::info!(filter, previous_filter, "log filter replaced");
        Ok(Response::new(pb::SetLogLevelResponse { previous_filter }))
    }
}

fn level(entry: LevelEntry) -> pb::CacheLevelEntry {
    // Ages and times to live are days at most, far inside what the wire can carry.
    let duration = |time: Duration| prost_types::Duration::try_from(time).ok();
    pb::CacheLevelEntry {
        version: entry.version,
        size_bytes: u64::try_from(entry.size_bytes).unwrap_or(u64::MAX),
        age: entry.age.and_then(duration),
        time_to_live: entry.time_to_live.and_then(duration),
        negative: entry.negative,
    }
}

fn refusal(refused: InspectError) -> Status {
    refusal_of(refused, "entry.entity")
}

/// The status of a refusal; `entity` is the field that names the entity.
fn refusal_of(refused: InspectError, entity: &str) -> Status {
    let mut bad = FieldViolations::default();
    match refused {
        InspectError::UnknownEntity { known } => {
            bad.add(entity, format!("must be one of {}", known.join(", ")));
        }
        InspectError::NotAKey => bad.add("entry.key", "must be a key of the entity"),
        InspectError::Redis(source) => {
            tracing::warn!(error = %source, "cache entry could not be inspected");
            return error::unavailable(DOMAIN, "REDIS_UNAVAILABLE", RETRY_AFTER);
        }
    }
    bad.into_status(DOMAIN)
}

fn bad_filter(refused: &TelemetryError) -> Status {
    if let TelemetryError::Filter { source, .. } = refused {
        let mut bad = FieldViolations::default();
        bad.add(
            "filter",
            format!("must be directives such as \"info,forebay_cache=debug\": {source}"),
        );
        return bad.into_status(DOMAIN);
    }
    tracing::error!(error = %refused, "log filter could not be replaced");
    error::internal(DOMAIN)
}
