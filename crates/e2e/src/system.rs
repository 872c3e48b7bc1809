//! One running forebay on backends of its own.

use forebay_proto::pool::v1::pool_service_client::PoolServiceClient;
use forebay_proto::token::v1::token_service_client::TokenServiceClient;
use forebay_testkit::TestDatabase;
use tonic::transport::{Channel, Endpoint};

use crate::ServiceProcess;

/// A client of the token service.
pub type TokenClient = TokenServiceClient<Channel>;
/// A client of the pool service.
pub type PoolClient = PoolServiceClient<Channel>;

/// Where the services find their stores.
#[derive(Debug, Clone)]
pub struct Backends {
    /// `DATABASE_URL` of the services.
    pub postgres_url: String,
    /// `REDIS_URL` of the services.
    pub redis_url: String,
    /// Prefix of every Redis key.
    pub redis_prefix: String,
    /// Further environment variables, such as the OTLP endpoint.
    pub env: Vec<(&'static str, String)>,
}

/// token-server and pool-server, ready.
#[derive(Debug)]
pub struct System {
    /// The token service.
    pub token: ServiceProcess,
    /// The pool service.
    pub pool: ServiceProcess,
    /// Dropped last: the services must be gone before their database is.
    database: Option<TestDatabase>,
}

impl System {
    /// Starts the system on a seeded database of its own and the shared test Redis.
    ///
    /// # Errors
    /// When a backend or a service does not come up.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with_env(Vec::new()).await
    }

    /// As [`System::start`], with further environment variables for the services.
    ///
    /// # Errors
    /// When a backend or a service does not come up.
    pub async fn start_with_env(env: Vec<(&'static str, String)>) -> anyhow::Result<Self> {
        let database = forebay_testkit::seeded_database().await;
        let backends = Backends {
            postgres_url: database.url().to_owned(),
            redis_url: forebay_testkit::redis_url(),
            redis_prefix: forebay_testkit::redis_prefix(),
            env,
        };
        let mut system = Self::start_on(&backends).await?;
        system.database = Some(database);
        Ok(system)
    }

    /// Starts the services on backends that the caller owns, and may break.
    ///
    /// # Errors
    /// When a service does not come up.
    pub async fn start_on(backends: &Backends) -> anyhow::Result<Self> {
        let mut env = vec![
            ("DATABASE_URL", backends.postgres_url.clone()),
            ("REDIS_URL", backends.redis_url.clone()),
            ("FOREBAY__REDIS__KEY_PREFIX", backends.redis_prefix.clone()),
        ];
        env.extend(backends.env.iter().cloned());
        let mut token = ServiceProcess::spawn("token-server", &env)?;
        env.push((
            "FOREBAY__TOKEN_CLIENT__ENDPOINT",
            format!("http://127.0.0.1:{}", token.grpc_port),
        ));
        let mut pool = ServiceProcess::spawn("pool-server", &env)?;
        token.ready().await?;
        pool.ready().await?;
        Ok(Self { token, pool, database: None })
    }

    /// A client of the token service on a connection of its own.
    ///
    /// # Errors
    /// When the service cannot be reached.
    pub async fn token_client(&self) -> anyhow::Result<TokenClient> {
        Ok(TokenServiceClient::new(channel(self.token.grpc_port).await?))
    }

    /// A client of the pool service on a connection of its own.
    ///
    /// # Errors
    /// When the service cannot be reached.
    pub async fn pool_client(&self) -> anyhow::Result<PoolClient> {
        Ok(PoolServiceClient::new(channel(self.pool.grpc_port).await?))
    }
}

async fn channel(port: u16) -> anyhow::Result<Channel> {
    Ok(Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?.connect().await?)
}
