//! The one HTTP request that tests make: GET on a process's ops port.

use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Status code and body of `GET http://127.0.0.1:{port}{path}`.
///
/// # Errors
/// When nothing answers in time or the answer is not HTTP.
pub async fn get(port: u16, path: &str) -> anyhow::Result<(u16, String)> {
    tokio::time::timeout(TIMEOUT, request(port, path)).await.context("no answer in time")?
}

async fn request(port: u16, path: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let head = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8(answer).context("answer is not UTF-8")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("answer has no header end")?;
    let status = head.split(' ').nth(1).context("answer has no status")?;
    Ok((status.parse().context("status is not a number")?, body.to_owned()))
}
