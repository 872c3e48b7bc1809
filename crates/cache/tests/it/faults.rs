//! Faults that last: clocks that are wrong, and a log of changes that is cut, trimmed and lost, while
//! rows change and everybody reads.

mod clocks;
mod log;
mod promoted;
mod switch;
mod witness;

use std::time::Duration;

use forebay_config::CacheConfig;
use forebay_testkit::PrivateRedis;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::cache_config;

/// Nothing may be older. Long enough for a machine that is busy with other tests: a tail that gets
/// no turn for so long would make the caches load instead.
const BOUND: Duration = Duration::from_secs(3);

/// Reads do not wait long for a Redis that is cut off.
fn config() -> CacheConfig {
    CacheConfig { staleness_max: BOUND, l2_timeout: Duration::from_millis(300), ..cache_config() }
}

/// One plain command on a connection of its own, which a cut of the others does not hit.
async fn ask(server: &PrivateRedis, line: &str) -> String {
    let address = ("127.0.0.1", server.port());
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    stream.write_all(format!("{line}\r\nQUIT\r\n").as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("answered");
    String::from_utf8_lossy(&answer).into_owned()
}
