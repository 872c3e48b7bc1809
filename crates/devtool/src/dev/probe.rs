//! Is it ready? Asked the way a load balancer and a client would ask.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use forebay_provision::ports;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::plan::ServicePorts;

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Whether a service that starts is ready: its ops port says so, and so does its gRPC health.
///
/// # Errors
///
/// Why it is not.
pub(crate) async fn service(ports: ServicePorts) -> anyhow::Result<()> {
    readyz(ports.ops).await?;
    timeout(TIMEOUT, grpc_health(ports.grpc)).await.context("gRPC health did not answer in time")?
}

/// Whether the ops port of a service says that it is ready. Asked over and over again, this leaves
/// no calls in its log and traces.
///
/// # Errors
///
/// Why it is not.
pub(crate) async fn readyz(ops: u16) -> anyhow::Result<()> {
    let (status, body) = timeout(TIMEOUT, http_get(ops, "/readyz"))
        .await
        .context("/readyz did not answer in time")??;
    ensure!(status == 200, "/readyz says {status} {}", body.trim());
    Ok(())
}

/// Whether something answers HTTP on this loopback port.
pub(crate) async fn answers_http(port: u16) -> bool {
    matches!(timeout(TIMEOUT, http_get(port, "/")).await, Ok(Ok(_)))
}

/// Whether something accepts connections on this address.
///
/// # Errors
///
/// Why it does not.
pub(crate) async fn accepts(address: &str) -> anyhow::Result<()> {
    let connected = timeout(TIMEOUT, TcpStream::connect(address)).await;
    connected
        .with_context(|| format!("{address} does not answer"))?
        .with_context(|| format!("{address} refuses"))?;
    Ok(())
}

async fn grpc_health(port: u16) -> anyhow::Result<()> {
    let channel = Endpoint::from_shared(format!("http://{}", ports::loopback(port)))?
        .connect_timeout(TIMEOUT)
        .connect()
        .await
        .context("connect to the gRPC port")?;
    let request = HealthCheckRequest { service: String::new() };
    let reply = HealthClient::new(channel)
        .check(request)
        .await
        .context("ask for gRPC health")?
        .into_inner();
    let status = reply.status();
    ensure!(status == ServingStatus::Serving, "gRPC health says {}", status.as_str_name());
    Ok(())
}

/// Status and body of a small HTTP reply.
async fn http_get(port: u16, path: &str) -> anyhow::Result<(u16, String)> {
    const REPLY_BYTES_MAX: u64 = 64 * 1024;
    let address = ports::loopback(port);
    let mut stream = TcpStream::connect(address).await.context("connect to the ops port")?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut reply = Vec::new();
    stream.take(REPLY_BYTES_MAX).read_to_end(&mut reply).await?;
    parse_reply(&String::from_utf8_lossy(&reply)).context("the answer is not HTTP")
}

fn parse_reply(reply: &str) -> Option<(u16, String)> {
    let (head, body) = reply.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::parse_reply;

    #[test]
    fn replies_are_read() {
        let cases = [
            ("HTTP/1.1 200 OK\r\na: b\r\n\r\nready", Some((200, "ready"))),
            ("HTTP/1.0 503 Service Unavailable\r\n\r\n", Some((503, ""))),
            ("SSH-2.0-x\r\n\r\n", None),
            ("HTTP/1.1 200 OK\r\n", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|(status, body): (u16, &str)| (status, body.to_owned()));
            assert_eq!(parse_reply(text), expected, "{text:?}");
        }
    }
}
