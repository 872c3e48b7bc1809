//! `[grpc]` and `[token_client]`: the gRPC server and our clients.

use std::net::SocketAddr;
use std::time::Duration;

use crate::Secret;
use crate::reader::Reader;

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

impl GrpcConfig {
    pub(crate) fn read(reader: &mut Reader<'_>, warnings: &mut Vec<String>) -> Option<Self> {
        let listen = reader.address("grpc.listen");
        let request_bytes_max = reader.integer("grpc.request_bytes_max", 1024..=256 << 20);
        let concurrent_requests_max = reader.integer("grpc.concurrent_requests_max", 1..=1_000_000);
        let answer = Duration::from_millis(1)..=Duration::from_secs(3600);
        let timeout_default = reader.duration("grpc.timeout_default", answer.clone());
        let timeout_max = reader.duration("grpc.timeout_max", answer);
        let drain = Duration::from_millis(1)..=Duration::from_secs(600);
        let drain_timeout = reader.duration("grpc.drain_timeout", drain);
        let lame_duck =
            reader.duration("grpc.lame_duck", Duration::ZERO..=Duration::from_secs(300));
        let reflection = reader.boolean("grpc.reflection");
        let page_token_key = page_token_key(reader, warnings);
        Some(Self {
            listen: listen?,
            request_bytes_max: request_bytes_max?,
            concurrent_requests_max: concurrent_requests_max?,
            timeout_default: timeout_default?,
            timeout_max: timeout_max?,
            drain_timeout: drain_timeout?,
            lame_duck: lame_duck?,
            reflection: reflection?,
            page_token_key: page_token_key?,
        })
    }
}

/// Shortest key that signs page tokens, in characters.
const PAGE_TOKEN_KEY_CHARS_MIN: usize = 32;

/// The key in force. There is no compiled-in key, because everybody would share it:
/// without one the process draws its own, which costs page tokens that cross replicas
/// and says so.
fn page_token_key(reader: &mut Reader<'_>, warnings: &mut Vec<String>) -> Option<Secret> {
    let key = "grpc.page_token_key";
    reader.accept(
        key,
        &format!("text of at least {PAGE_TOKEN_KEY_CHARS_MIN} characters, or nothing"),
    );
    let text = reader.secret_text(key)?;
    if text.is_empty() {
        reader.show(key, "\"\" # random in each process".to_owned());
        warnings.push(format!(
            "{key} is not set: page tokens are accepted by this process only, not by other \
             replicas and not after a restart"
        ));
        let random: [u8; 32] = rand::random();
        return Some(Secret::new(random.map(|byte| format!("{byte:02x}")).concat()));
    }
    if text.chars().count() < PAGE_TOKEN_KEY_CHARS_MIN {
        let expected = format!("expected {PAGE_TOKEN_KEY_CHARS_MIN} characters or more, or none");
        reader.refuse(key, expected);
        return None;
    }
    reader.show(key, "\"[redacted]\"".to_owned());
    Some(Secret::new(text))
}

impl GrpcClientConfig {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let endpoint = reader.endpoint("token_client.endpoint");
        let wait = Duration::from_millis(1)..=Duration::from_secs(300);
        let connect_timeout = reader.duration("token_client.connect_timeout", wait.clone());
        let timeout = reader.duration("token_client.timeout", wait);
        let attempts_max = reader.integer("token_client.attempts_max", 1..=10);
        Some(Self {
            endpoint: endpoint?,
            connect_timeout: connect_timeout?,
            timeout: timeout?,
            attempts_max: attempts_max?,
        })
    }
}
