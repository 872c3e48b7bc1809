//! Three replicas of token-server, each behind proxies of its own, and the servers behind those.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use forebay_e2e::{ServiceProcess, TokenClient};
use forebay_postgres::PgPool;
use forebay_proto::token::v1::token_service_client::TokenServiceClient;
use forebay_testkit::{PrivatePostgres, PrivateRedis};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::transport::Endpoint;

use crate::ledger::BOUND;
use crate::proxy::Proxy;

/// Replicas of the service.
pub(crate) const REPLICAS: usize = 3;

/// Deletes every entry of the cache, and answers with OK.
const EVICT: &str = "EVAL \"for _, key in ipairs(redis.call('KEYS', '*cache:*')) do \
     if not string.find(key, ':lease$') then redis.call('DEL', key) end end \
     return redis.status_reply('OK')\" 0";

/// What runs.
pub(crate) struct Fleet {
    pub(crate) replicas: Vec<Replica>,
    pub(crate) redis: PrivateRedis,
    postgres: PrivatePostgres,
}

/// One replica and its ways to the stores.
pub(crate) struct Replica {
    service: ServiceProcess,
    pub(crate) to_redis: Proxy,
    pub(crate) to_postgres: Proxy,
}

impl Fleet {
    /// Starts all of it.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let postgres = PrivatePostgres::start_seeded().await;
        let redis = PrivateRedis::start();
        let mut replicas = Vec::new();
        for _ in 0..REPLICAS {
            replicas.push(Replica::start(&postgres, &redis).await?);
        }
        for replica in &mut replicas {
            replica.service.ready().await?;
        }
        Ok(Self { replicas, redis, postgres })
    }

    /// A client of each replica, on connections of its own.
    pub(crate) async fn clients(&self) -> anyhow::Result<Vec<TokenClient>> {
        let mut clients = Vec::new();
        for replica in &self.replicas {
            let address = format!("http://127.0.0.1:{}", replica.service.grpc_port);
            clients.push(TokenServiceClient::new(Endpoint::from_shared(address)?.connect().await?));
        }
        Ok(clients)
    }

    /// Postgres itself, around the proxies.
    pub(crate) fn postgres(&self) -> anyhow::Result<PgPool> {
        Ok(PgPool::new(&forebay_testkit::postgres_config(&self.postgres.url()), "history")?)
    }

    /// Kills Redis and starts it again, with what it last saved, if it has.
    pub(crate) fn restart_redis(&mut self) {
        self.redis.kill();
        tokio::task::block_in_place(|| self.redis.restart());
    }

    /// Drops entries and tombstones from Redis, as a server does that is short of memory. What it
    /// keeps besides are leases, marks, epochs and the log.
    pub(crate) async fn evict_entries(&self) -> anyhow::Result<()> {
        self.redis_ok(EVICT).await
    }

    /// Sends Redis a command that is answered with OK, around the proxies.
    pub(crate) async fn redis_ok(&self, command: &str) -> anyhow::Result<()> {
        let mut redis = TcpStream::connect(("127.0.0.1", self.redis.port())).await?;
        redis.write_all(format!("{command}\r\n").as_bytes()).await?;
        let mut answer = [0; 5];
        let answered = tokio::time::timeout(Duration::from_secs(10), redis.read_exact(&mut answer));
        answered.await.with_context(|| format!("{command} has no answer"))??;
        ensure!(&answer == b"+OK\r\n", "{command}: {}", String::from_utf8_lossy(&answer));
        Ok(())
    }
}

impl Replica {
    async fn start(postgres: &PrivatePostgres, redis: &PrivateRedis) -> anyhow::Result<Self> {
        let url = postgres.url();
        let port = postgres.port();
        let (to_redis, to_postgres) =
            (Proxy::start(redis.port()).await?, Proxy::start(port).await?);
        let (direct, proxied) =
            (format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", to_postgres.port()));
        ensure!(url.contains(&direct), "the test does not know where Postgres is");
        let env = [
            ("DATABASE_URL", url.replace(&direct, &proxied)),
            ("REDIS_URL", format!("redis://127.0.0.1:{}", to_redis.port())),
            ("FOREBAY__CACHE__STALENESS_MAX", format!("{}ms", BOUND.as_millis())),
            // Every answer is judged, also while Postgres is away.
            ("FOREBAY__CACHE__TOKEN__STALE_MAX", "0s".to_owned()),
            // Room for a quarter of the rows, so that Redis is read as well.
            ("FOREBAY__CACHE__L1_BYTES_MAX", "163840".to_owned()),
            ("FOREBAY__CACHE__VERIFY_SHARE", "0.01".to_owned()),
            ("FOREBAY__TELEMETRY__LOG_FILTER", "error".to_owned()),
            ("FOREBAY__POSTGRES__CONNECTIONS_MAX", "8".to_owned()),
        ];
        let service = ServiceProcess::spawn("token-server", &env)?;
        Ok(Self { service, to_redis, to_postgres })
    }
}
