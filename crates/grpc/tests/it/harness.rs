//! A server on a free port whose handlers do what the request says.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use forebay_config::{GrpcClientConfig, GrpcConfig, Secret};
use forebay_grpc::client::{self, idempotent};
use forebay_grpc::{Health, Server, error};
use forebay_pooling::Deadline;
use forebay_proto::token::v1::token_service_client::TokenServiceClient;
use forebay_proto::token::v1::token_service_server::{TokenService, TokenServiceServer};
use forebay_proto::token::v1::*;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use crate::observe::TELEMETRY;

pub(crate) const DOMAIN: &str = "token.forebay";
/// Longer than any test may take: reaching it means that something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// HTTP/2 connection preface and an empty SETTINGS frame.
pub(crate) const HELLO: &[u8] =
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// Waits for `future`, but not for ever.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it hangs")
}

pub(crate) fn config() -> GrpcConfig {
    GrpcConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        request_bytes_max: 4 * 1024 * 1024,
        concurrent_requests_max: 100,
        timeout_default: Duration::from_secs(30),
        timeout_max: Duration::from_secs(60),
        drain_timeout: PATIENCE,
        lame_duck: Duration::ZERO,
        reflection: true,
        page_token_key: Secret::new("key"),
    }
}

pub(crate) fn client_config(address: SocketAddr) -> GrpcClientConfig {
    GrpcClientConfig {
        endpoint: format!("http://{address}"),
        connect_timeout: Duration::from_secs(5),
        timeout: Duration::from_secs(30),
        attempts_max: 3,
    }
}

/// Handlers that do what the `id` of a GetToken says.
#[derive(Debug)]
pub(crate) struct Script {
    /// Calls that reached a handler.
    pub(crate) calls: AtomicUsize,
    /// How many of the next calls of "flaky" fail.
    pub(crate) failures: AtomicUsize,
    /// What "flaky" asks its caller to wait.
    pub(crate) retry_after: Duration,
    /// One permit for each "hang" that began.
    pub(crate) hanging: Semaphore,
    /// One permit lets one "hang" end.
    pub(crate) release: Semaphore,
    /// One permit for each "hang" that was dropped before its end.
    pub(crate) dropped: Semaphore,
    /// Whom "chain:X" asks for X.
    pub(crate) next: Option<client::Channel>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            calls: AtomicUsize::new(0),
            failures: AtomicUsize::new(0),
            retry_after: Duration::ZERO,
            hanging: Semaphore::new(0),
            release: Semaphore::new(0),
            dropped: Semaphore::new(0),
            next: None,
        }
    }
}

/// Tells when it is dropped.
struct Dropped<'a>(Option<&'a Semaphore>);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        if let Some(dropped) = self.0 {
            dropped.add_permits(1);
        }
    }
}

/// What a handler sees of its call: `name` is the time left in ms, `symbol` the request id.
fn seen(id: &str) -> Token {
    let left = Deadline::current().map(|deadline| deadline.remaining().as_millis());
    let request_id = forebay_grpc::current_request_id().expect("a request id in scope");
    Token {
        id: id.to_owned(),
        name: left.map_or_else(String::new, |left| left.to_string()),
        symbol: request_id.to_str().expect("text").to_owned(),
        ..Token::default()
    }
}

impl Script {
    async fn act(&self, id: &str) -> Result<Token, Status> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match id {
            "seen" => Ok(seen(id)),
            large if large.starts_with("xx") => Ok(seen("large")),
            "panic" => panic!("secret of the handler"),
            "not_found" => Err(error::not_found(DOMAIN, "TOKEN_NOT_FOUND", "token", id)),
            "bare" => Err(Status::not_found("no details here")),
            "internal" => Err(error::internal(DOMAIN)),
            "hang" => {
                let mut dropped = Dropped(Some(&self.dropped));
                self.hanging.add_permits(1);
                self.release.acquire().await.expect("open").forget();
                dropped.0 = None;
                Ok(seen(id))
            }
            "flaky" => {
                let fail = |left: usize| left.checked_sub(1);
                match self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fail) {
                    Ok(_) => Err(error::unavailable(DOMAIN, "FLAKY", self.retry_after)),
                    Err(_) => Ok(seen(id)),
                }
            }
            _ => {
                let id = id.strip_prefix("chain:").expect("a known act");
                let next = self.next.clone().expect("somebody to ask");
                let request = idempotent(GetTokenRequest { id: id.to_owned() });
                let reply = TokenServiceClient::new(next).get_token(request).await?;
                reply.into_inner().token.ok_or_else(|| error::internal(DOMAIN))
            }
        }
    }
}

/// A server that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) health: Health,
    pub(crate) script: Arc<Script>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn start(config: GrpcConfig, script: Script) -> Self {
        LazyLock::force(&TELEMETRY);
        let script = Arc::new(script);
        let service = TokenServiceServer::from_arc(Arc::clone(&script));
        let server =
            Server::new(&config, "test-server").add(service.max_decoding_message_size(usize::MAX));
        let health = server.health();
        let bound = server.bind().await.expect("a free port");
        let address = bound.local_addr();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(bound.serve(async {
            // A sender that is gone stops the server too.
            drop(stopped.await);
        }));
        Self { address, health, script, stop, served }
    }

    /// A connection by tonic alone, so that the kit does not test itself.
    pub(crate) async fn channel(&self) -> Channel {
        self.endpoint().connect().await.expect("the server listens")
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Channel::from_shared(format!("http://{}", self.address)).expect("an address")
    }

    pub(crate) async fn client(&self) -> TokenServiceClient<Channel> {
        TokenServiceClient::new(self.channel().await)
    }

    /// The kit's own client.
    pub(crate) fn kit_client(&self) -> TokenServiceClient<client::Channel> {
        let channel = client::connect(&client_config(self.address)).expect("an address");
        TokenServiceClient::new(channel)
    }

    /// Asks it to stop; the handle ends when it has.
    pub(crate) fn stop(self) -> JoinHandle<()> {
        self.stop.send(()).expect("it runs");
        self.served
    }
}

pub(crate) fn get(id: &str) -> GetTokenRequest {
    GetTokenRequest { id: id.to_owned() }
}

/// The tests use GetToken alone; the others exist because the contract has them.
macro_rules! serve_get_token {
    ($($unused:ident($request:ident) -> $response:ident),*) => {
        #[tonic::async_trait]
        impl TokenService for Script {
            async fn get_token(
                &self,
                request: Request<GetTokenRequest>,
            ) -> Result<Response<GetTokenResponse>, Status> {
                let token = self.act(&request.get_ref().id).await?;
                Ok(Response::new(GetTokenResponse { token: Some(token) }))
            }

            $(async fn $unused(&self, _: Request<$request>) -> Result<Response<$response>, Status> {
                Err(Status::unimplemented(""))
            })*
        }
    };
}

serve_get_token!(
    lookup_token(LookupTokenRequest) -> LookupTokenResponse,
    batch_get_tokens(BatchGetTokensRequest) -> BatchGetTokensResponse,
    list_tokens(ListTokensRequest) -> ListTokensResponse,
    create_token(CreateTokenRequest) -> CreateTokenResponse,
    update_token(UpdateTokenRequest) -> UpdateTokenResponse,
    delete_token(DeleteTokenRequest) -> DeleteTokenResponse
);
