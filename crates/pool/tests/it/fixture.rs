//! A pool service and a token service of a test's own, and what tests assert about errors.

use std::net::SocketAddr;
use std::time::Duration;

use forebay_cache::Cache;
use forebay_config::{
    CacheConfig, EntityCacheConfig, GrpcClientConfig, GrpcConfig, ListCacheConfig, PostgresConfig,
    RedisConfig, Secret,
};
use forebay_grpc::Server;
use forebay_pool::{MintResolver, PoolService};
use forebay_pooling::Deadline;
use forebay_postgres::PgPool;
use forebay_proto::pool::v1::pool_service_client::PoolServiceClient;
use forebay_proto::pool::v1::{self as pb};
use forebay_redis::RedisPool;
use forebay_testkit as testkit;
use forebay_token::TokenService;
use tokio::task::AbortHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Wrapped SOL.
pub(crate) const SOL: &str = "So11111111111111111111111111111111111111112";
/// USD Coin.
pub(crate) const USDC: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";
/// The liquidity pool of SOL and USD Coin on Orca.
pub(crate) const SOL_USDC: &str = "EGZ7tiLeH62TPV1gL8WwbXGzEPa9zmcpVnnkPKKnrE2U";
/// A valid public key that is in no seed data.
pub(crate) const UNUSED: &str = "11111111111111111111111111111111";
/// A valid id that is in no database.
pub(crate) const UNUSED_ID: &str = "0198c0de-0000-7000-8000-000000000001";

pub(crate) type Client = PoolServiceClient<Channel>;

/// The processes under test; they end with this value.
#[derive(Debug)]
pub(crate) struct System {
    service: PoolService,
    client: Client,
    channel: Channel,
    pools: AbortHandle,
    tokens: AbortHandle,
}

impl System {
    /// Both services on this database, with keys in Redis of their own.
    pub(crate) async fn on(database: &testkit::TestDatabase) -> Self {
        Self::start(
            &testkit::postgres_config(database.url()),
            &testkit::redis_config(&testkit::redis_url(), &testkit::redis_prefix()),
        )
        .await
    }

    /// Both services on these servers.
    pub(crate) async fn start(postgres: &PostgresConfig, redis: &RedisConfig) -> Self {
        let (tokens, token_address) = start_tokens(postgres, redis).await;
        let postgres = PgPool::new(postgres, "pool-test").expect("a usable url");
        let cache = Cache::new(
            &cache_config(),
            postgres.clone(),
            RedisPool::new(redis).expect("a usable url"),
        );
        let token_client = GrpcClientConfig {
            endpoint: format!("http://{token_address}"),
            connect_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            attempts_max: 2,
        };
        let channel = forebay_grpc::client::connect(&token_client).expect("an address");
        let mints = MintResolver::new(channel);
        let service = PoolService::new(postgres, &cache, &cache_config().pool, mints, &key());
        let server =
            Server::new(&grpc_config(), "pool-test").add(forebay_pool::server(service.clone()));
        let bound = server.bind().await.expect("port 0 is free");
        let endpoint = format!("http://{}", bound.local_addr());
        let pools = tokio::spawn(bound.serve(std::future::pending())).abort_handle();
        let channel = Endpoint::from_shared(endpoint).expect("an address").connect_lazy();
        let client = PoolServiceClient::new(channel.clone());
        Self { service, client, channel, pools, tokens }
    }

    /// The connection below [`System::client`].
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The service itself, without gRPC.
    pub(crate) fn service(&self) -> &PoolService {
        &self.service
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Whether the commits that began ended within `timeout`.
    pub(crate) async fn drain(&self, timeout: Duration) -> bool {
        self.service.drain(Deadline::after(timeout)).await
    }

    /// Ends the token service.
    pub(crate) fn kill_tokens(&self) {
        self.tokens.abort();
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.pools.abort();
        self.tokens.abort();
    }
}

async fn start_tokens(postgres: &PostgresConfig, redis: &RedisConfig) -> (AbortHandle, SocketAddr) {
    let postgres = PgPool::new(postgres, "token-test").expect("a usable url");
    let cache =
        Cache::new(&cache_config(), postgres.clone(), RedisPool::new(redis).expect("a usable url"));
    let service = TokenService::new(postgres, &cache, &cache_config().token, &key());
    let server = Server::new(&grpc_config(), "token-test").add(forebay_token::server(service));
    let bound = server.bind().await.expect("port 0 is free");
    let address = bound.local_addr();
    (tokio::spawn(bound.serve(std::future::pending())).abort_handle(), address)
}

fn key() -> Secret {
    Secret::new("a key of thirty-two characters..")
}

fn grpc_config() -> GrpcConfig {
    GrpcConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        // More than the 4 MiB that tonic allows by itself.
        request_bytes_max: 8 << 20,
        concurrent_requests_max: 256,
        timeout_default: Duration::from_secs(20),
        timeout_max: Duration::from_secs(60),
        drain_timeout: Duration::from_secs(1),
        lame_duck: Duration::ZERO,
        reflection: false,
        page_token_key: key(),
    }
}

fn cache_config() -> CacheConfig {
    let entity = EntityCacheConfig {
        ttl: Duration::from_secs(3600),
        negative_ttl: Duration::from_secs(3600),
        value_bytes_max: 64 << 10,
        stale_max: Duration::from_secs(600),
        loads_max: 8,
        loads_waiting_keys_max: 8192,
    };
    CacheConfig {
        l1_bytes_max: 64 << 20,
        l1_negative_bytes_max: 1 << 20,
        l2_timeout: Duration::from_millis(200),
        staleness_max: Duration::from_secs(1),
        outbox_interval: Duration::from_millis(250),
        lease_ttl: Duration::from_secs(2),
        lease_wait: Duration::from_millis(50),
        refresh_beta: 1.0,
        ttl_jitter: 0.2,
        warm_up_keys: 1000,
        warm_up_timeout: Duration::from_secs(2),
        verify_share: 0.001,
        verified_per_second_max: 10,
        token: entity.clone(),
        pool: entity,
        list: ListCacheConfig {
            l1_bytes_max: 16 << 20,
            ttl: Duration::from_secs(3600),
            stale_max: Duration::from_secs(600),
            page_bytes_max: 1 << 20,
            loads_max: 8,
            loads_waiting_max: 1024,
            calm: Duration::ZERO,
        },
    }
}

/// A valid pool of this address.
pub(crate) fn pool(address: &str) -> pb::Pool {
    pb::Pool {
        pool_address: address.to_owned(),
        dex: "raydium".to_owned(),
        base_mint: SOL.to_owned(),
        quote_mint: USDC.to_owned(),
        base_vault: SOL.to_owned(),
        quote_vault: USDC.to_owned(),
        lp_mint: SOL.to_owned(),
        lp_decimals: 255,
        curve: pb::Curve::Stable.into(),
        trade_fee_bps: 25,
        owner_fee_bps: 10_000,
        name: " SOL/USDC ".to_owned(),
        ..pb::Pool::default()
    }
}

/// The part of a pool that its creator chose.
pub(crate) fn given(pool: pb::Pool) -> pb::Pool {
    pb::Pool {
        id: String::new(),
        base_token_id: String::new(),
        quote_token_id: String::new(),
        version: 0,
        etag: String::new(),
        create_time: None,
        update_time: None,
        ..pool
    }
}

/// The pool of this address, which exists.
pub(crate) async fn lookup(client: &mut Client, address: &str) -> pb::Pool {
    let request = pb::LookupPoolRequest { pool_address: address.to_owned() };
    let reply = client.lookup_pool(request).await.expect("the pool exists");
    reply.into_inner().pool.expect("a reply has its pool")
}

/// The pool with this id, which exists.
pub(crate) async fn get(client: &mut Client, id: &str) -> pb::Pool {
    let reply = client.get_pool(pb::GetPoolRequest { id: id.to_owned() }).await;
    reply.expect("the pool exists").into_inner().pool.expect("a reply has its pool")
}

/// A request to create a pool.
pub(crate) fn create_request(pool: pb::Pool, request_id: &str) -> pb::CreatePoolRequest {
    pb::CreatePoolRequest { pool: Some(pool), request_id: request_id.to_owned() }
}

/// Creates a pool.
pub(crate) async fn create(client: &mut Client, pool: pb::Pool) -> pb::Pool {
    let reply = client.create_pool(create_request(pool, "")).await;
    reply.expect("the pool can be created").into_inner().pool.expect("a reply has its pool")
}

/// A request to update these fields.
pub(crate) fn update_request(pool: pb::Pool, paths: &[&str]) -> pb::UpdatePoolRequest {
    let paths = paths.iter().map(|&path| path.to_owned()).collect();
    let update_mask = Some(prost_types::FieldMask { paths });
    pb::UpdatePoolRequest { pool: Some(pool), update_mask, ..Default::default() }
}

/// Updates a pool that exists.
pub(crate) async fn update(client: &mut Client, pool: pb::Pool, paths: &[&str]) -> pb::Pool {
    let reply = client.update_pool(update_request(pool, paths)).await;
    reply.expect("the pool can be updated").into_inner().pool.expect("a reply has its pool")
}

/// A request to delete a pool that has this etag.
pub(crate) fn delete_request(id: &str, etag: &str) -> pb::DeletePoolRequest {
    pb::DeletePoolRequest { id: id.to_owned(), etag: etag.to_owned(), ..Default::default() }
}

/// Asserts the code and the reason.
#[track_caller]
pub(crate) fn assert_refused(status: &Status, code: Code, reason: &str) {
    assert_eq!(status.code(), code, "{status:?}");
    let info = status.get_details_error_info().expect("every error has ErrorInfo");
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "pool.forebay"));
}

/// Asserts which fields are bad.
#[track_caller]
pub(crate) fn assert_bad_fields(status: &Status, expected: &[&str]) {
    assert_refused(status, Code::InvalidArgument, "INVALID_FIELDS");
    let bad = status.get_details_bad_request().expect("it names fields");
    let mut fields: Vec<_> = bad.field_violations.into_iter().map(|it| it.field).collect();
    fields.sort_unstable();
    assert_eq!(fields, expected);
}
