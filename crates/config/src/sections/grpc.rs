//! `[grpc]` and `[token_client]`: the gRPC server and our clients.

use std::net::SocketAddr;
use std::time::Duration;

use crate::Secret;

/// The gRPC server.
#[derive(Debug, Clone)]
pub struct GrpcConfig {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Largest request message in bytes; a larger one is RESOURCE_EXHAUSTED.
    pub request_bytes_max: usize,
    /// Requests served at once per process; one more waits for a place.
    pub concurrent_requests_max: usize,
    /// Deadline given to a request that brings none.
    pub timeout_default: Duration,
    /// Longest deadline a request may ask for; a longer one is cut to it.
    pub timeout_max: Duration,
    /// How long requests in flight may take to finish after a stop is asked.
    pub drain_timeout: Duration,
    /// How long health says NOT_SERVING before the listener closes.
    pub lame_duck: Duration,
    /// Whether server reflection is served.
    pub reflection: bool,
    /// Key that signs page tokens. Replicas must share it.
    pub page_token_key: Secret,
}

/// One gRPC peer that we call.
#[derive(Debug, Clone)]
pub struct GrpcClientConfig {
    /// Where the peer listens, as `http://host:port`.
    pub endpoint: String,
    /// How long to wait for the TCP connection.
    pub connect_timeout: Duration,
    /// Deadline of one call when the caller's own deadline is not nearer.
    pub timeout: Duration,
    /// Attempts of one idempotent call, the first included.
    pub attempts_max: u32,
}
