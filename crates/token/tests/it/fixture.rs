//! A token service of a test's own, and what tests assert about its errors.

use std::time::Duration;

use forebay_cache::Cache;
use forebay_config::{
    CacheConfig, EntityCacheConfig, GrpcConfig, ListCacheConfig, PostgresConfig, RedisConfig,
    Secret,
};
use forebay_grpc::Server;
use forebay_pooling::Deadline;
use forebay_postgres::PgPool;
use forebay_proto::token::v1::token_service_client::TokenServiceClient;
use forebay_proto::token::v1::{self as pb};
use forebay_redis::RedisPool;
use forebay_testkit as testkit;
use forebay_token::TokenService;
use prost_types::FieldMask;
use tokio::task::AbortHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// USD Coin: a token of the seed data that liquidity pools use.
pub(crate) const USDC: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";
/// A valid mint that is in no seed data.
pub(crate) const UNUSED_MINT: &str = "11111111111111111111111111111111";
/// A valid id that is in no database.
pub(crate) const UNUSED_ID: &str = "0198c0de-0000-7000-8000-000000000001";

pub(crate) type Client = TokenServiceClient<Channel>;

/// A running token service; it ends with this value.
#[derive(Debug)]
pub(crate) struct Service {
    service: TokenService,
    client: Client,
    channel: Channel,
    task: AbortHandle,
}

impl Service {
    /// A service on these servers.
    pub(crate) async fn start(postgres: &PostgresConfig, redis: &RedisConfig) -> Self {
        let postgres = PgPool::new(postgres, "token-test").expect("a usable url");
        let redis = RedisPool::new(redis).expect("a usable url");
        let cache_config = cache_config();
        let cache = Cache::new(&cache_config, postgres.clone(), redis);
        let key = Secret::new("a key of thirty-two characters..");
        let service = TokenService::new(postgres, &cache, &cache_config.token, &key);
        let server =
            Server::new(&grpc_config(), "token-test").add(forebay_token::server(service.clone()));
        let bound = server.bind().await.expect("port 0 is free");
        let endpoint = format!("http://{}", bound.local_addr());
        let task = tokio::spawn(bound.serve(std::future::pending())).abort_handle();
        let channel = Endpoint::from_shared(endpoint).expect("an address").connect_lazy();
        // A page of a thousand long tokens is larger than the client's usual limit.
        let client = TokenServiceClient::new(channel.clone()).max_decoding_message_size(64 << 20);
        Self { service, client, channel, task }
    }

    /// A service on this database, with keys in Redis of its own.
    pub(crate) async fn on(database: &testkit::TestDatabase) -> Self {
        Self::start(
            &testkit::postgres_config(database.url()),
            &testkit::redis_config(&testkit::redis_url(), &testkit::redis_prefix()),
        )
        .await
    }

    /// Whether the commits that began ended within `timeout`.
    pub(crate) async fn drain(&self, timeout: Duration) -> bool {
        self.service.drain(Deadline::after(timeout)).await
    }

    /// The connection below [`Service::client`].
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The service itself, without gRPC.
    pub(crate) fn service(&self) -> &TokenService {
        &self.service
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
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
        page_token_key: Secret::new("a key of thirty-two characters.."),
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

/// A valid token of this mint.
pub(crate) fn token(mint: &str) -> pb::Token {
    pb::Token {
        mint: mint.to_owned(),
        symbol: " TEST ".to_owned(),
        name: "Test token".to_owned(),
        decimals: 100,
        logo_uri: "https://example.com/logo.png".to_owned(),
        tags: vec!["a".to_owned(), "b".to_owned(), "a".to_owned()],
        extensions: [("website".to_owned(), "https://example.com".to_owned())].into(),
        ..pb::Token::default()
    }
}

/// The part of a token that its creator chose.
pub(crate) fn given(token: pb::Token) -> pb::Token {
    pb::Token {
        id: String::new(),
        version: 0,
        etag: String::new(),
        create_time: None,
        update_time: None,
        ..token
    }
}

/// The token of this mint, which exists.
pub(crate) async fn lookup(client: &mut Client, mint: &str) -> pb::Token {
    let request = pb::LookupTokenRequest { mint: mint.to_owned() };
    let reply = client.lookup_token(request).await.expect("the token exists");
    reply.into_inner().token.expect("a reply has its token")
}

/// The token with this id, which exists.
pub(crate) async fn get(client: &mut Client, id: &str) -> pb::Token {
    let request = pb::GetTokenRequest { id: id.to_owned() };
    let reply = client.get_token(request).await.expect("the token exists");
    reply.into_inner().token.expect("a reply has its token")
}

/// Creates a token.
pub(crate) async fn create(client: &mut Client, token: pb::Token) -> pb::Token {
    let request = pb::CreateTokenRequest { token: Some(token), request_id: String::new() };
    let reply = client.create_token(request).await.expect("the token can be created");
    reply.into_inner().token.expect("a reply has its token")
}

/// Asserts the code and the reason.
#[track_caller]
pub(crate) fn assert_refused(status: &Status, code: Code, reason: &str) {
    assert_eq!(status.code(), code, "{status:?}");
    let info = status.get_details_error_info().expect("every error has ErrorInfo");
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "token.forebay"));
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

/// An update mask of these paths.
pub(crate) fn mask(paths: &[&str]) -> Option<FieldMask> {
    let paths = paths.iter().map(|&path| path.to_owned()).collect();
    Some(FieldMask { paths })
}

/// Updates a token that exists.
pub(crate) async fn update(client: &mut Client, token: pb::Token, paths: &[&str]) -> pb::Token {
    let request = pb::UpdateTokenRequest {
        token: Some(token),
        update_mask: mask(paths),
        ..Default::default()
    };
    let reply = client.update_token(request).await.expect("the token can be updated");
    reply.into_inner().token.expect("a reply has its token")
}

/// Deletes a token that exists.
pub(crate) async fn delete(client: &mut Client, id: &str) {
    let request = delete_request(id, "");
    client.delete_token(request).await.expect("the token can be deleted");
}

/// A request to delete a token that has this etag.
pub(crate) fn delete_request(id: &str, etag: &str) -> pb::DeleteTokenRequest {
    pb::DeleteTokenRequest { id: id.to_owned(), etag: etag.to_owned(), ..Default::default() }
}

/// A request to create a token.
pub(crate) fn create_request(token: pb::Token) -> pb::CreateTokenRequest {
    pb::CreateTokenRequest { token: Some(token), ..Default::default() }
}

/// A request to update what is set in `token`.
pub(crate) fn update_request(token: pb::Token) -> pb::UpdateTokenRequest {
    pb::UpdateTokenRequest { token: Some(token), ..Default::default() }
}
