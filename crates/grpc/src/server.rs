//! The gRPC server: what stands between a connection and a handler.
//!
//! tonic's own transport server cannot be told to end: a client that keeps
//! its connection open holds the stop for ever, and its errors carry no
//! details. So this one drives hyper itself and calls the generated services,
//! which also costs less per call.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use forebay_config::GrpcConfig;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use health::Health;
use routes::RoutesBuilder;

mod accept;
mod body;
mod call;
pub(crate) mod health;
mod observe;
mod ration;
mod request_body;
mod routes;

pub(crate) use observe::DURATION_BOUNDARIES;
pub(crate) use routes::KIT_DOMAIN;

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on: taken by another process, not of
    /// this machine, or a port that needs privileges.
    #[error("listen for gRPC on {address}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The committed descriptors cannot be read: the build is broken.
    #[error("read the descriptors of the gRPC contracts")]
    Descriptors {
        /// What is wrong with them.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A gRPC server under construction.
///
/// Health (`grpc.health.v1`) and, unless switched off, reflection (v1 and
/// v1alpha) are served beside the services added.
#[derive(Debug)]
pub struct Server {
    config: GrpcConfig,
    name: &'static str,
    routes: RoutesBuilder,
    health: Health,
}

impl Server {
    /// A server without services; `name`, such as `token-server`, is for its log lines.
    pub fn new(config: &GrpcConfig, name: &'static str) -> Self {
        Self {
            config: config.clone(),
            name,
            routes: RoutesBuilder::default(),
            health: Health::default(),
        }
    }

    /// Serves `service` too.
    ///
    /// Give it `max_decoding_message_size(usize::MAX)`: messages over
    /// `request_bytes_max` are refused here, before they are read, whereas a
    /// generated server refuses those over 4 MiB by itself, with OUT_OF_RANGE
    /// and however large `request_bytes_max` is. It must not accept compressed
    /// requests, since only its own limit bounds what they unpack to.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "a server is no number")]
    pub fn add<S>(mut self, service: S) -> Self
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.health.register(S::NAME);
        self.routes.add(service);
        self
    }

    /// The handle that changes what health checks answer.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Listens. Connections wait until [`Bound::serve`] runs.
    ///
    /// # Errors
    /// [`ServeError::Bind`] when the address cannot be had.
    pub async fn bind(self) -> Result<Bound, ServeError> {
        let address = self.config.listen;
        let bind_error = |source| ServeError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(bind_error)?;
        let local_addr = listener.local_addr().map_err(bind_error)?;
        self.health.publish().await;
        let routes = self
            .routes
            .finish(&self.health, self.config.reflection)
            .map_err(|source| ServeError::Descriptors { source })?;
        let core = Arc::new(call::Core::new(&self.config, routes, local_addr));
        Ok(Bound {
            config: self.config,
            name: self.name,
            health: self.health,
            listener,
            local_addr,
            core,
        })
    }

    /// Listens and serves until `shutdown` completes and the drain is over.
    ///
    /// # Errors
    /// [`ServeError::Bind`] when the address cannot be had.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), ServeError> {
        self.bind().await?.serve(shutdown).await;
        Ok(())
    }
}

/// A server that listens.
#[derive(Debug)]
pub struct Bound {
    config: GrpcConfig,
    name: &'static str,
    health: Health,
    listener: TcpListener,
    local_addr: SocketAddr,
    core: Arc<call::Core>,
}

impl Bound {
    /// Where it listens; tells the port when 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `shutdown` completes, then drains: health says NOT_SERVING
    /// for `lame_duck`, then no new connection is taken and the clients are
    /// told to go away, and after `drain_timeout` what is left is closed.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) {
        accept::run(self, shutdown).await;
    }
}
