//! A stop is announced, finishes what runs, and ends.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tonic::Code;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use crate::harness::{HELLO, PATIENCE, Running, Script, config, get, soon};

/// Fails when the drain has no cap: this client says hello, then never answers
/// and never closes, so a graceful shutdown of its connection never ends.
#[tokio::test]
async fn a_client_that_never_closes_cannot_hold_the_stop() {
    let mut config = config();
    config.drain_timeout = Duration::from_millis(200);
    let server = Running::start(config, Script::default()).await;
    let mut idle = TcpStream::connect(server.address).await.expect("it listens");
    idle.write_all(HELLO).await.expect("sent");
    // Its SETTINGS prove that the connection is being served.
    soon(idle.read_exact(&mut [0; 9])).await.expect("its hello");

    let asked = Instant::now();
    soon(server.stop()).await.expect("a clean end");
    assert!(asked.elapsed() >= Duration::from_millis(200), "it had to wait for the cap");
    let mut rest = Vec::new();
    // Closed or reset, both mean that the server let go.
    drop(soon(idle.read_to_end(&mut rest)).await);
}

/// Fails when a silent connection, which is owed nothing, is waited for.
#[tokio::test]
async fn a_connection_that_said_nothing_is_closed_at_once() {
    let server = Running::start(config(), Script::default()).await;
    let mut silent = TcpStream::connect(server.address).await.expect("it listens");
    server.client().await.get_token(get("seen")).await.expect("accepted after it");
    let asked = Instant::now();
    soon(server.stop()).await.expect("a clean end");
    assert!(asked.elapsed() < PATIENCE / 2, "it waited for the cap");
    assert_eq!(soon(silent.read(&mut [0; 1])).await.expect("closed"), 0);
}

/// Fails when a stop cuts what it should let finish.
#[tokio::test]
async fn a_call_in_flight_is_finished() {
    let server = Running::start(config(), Script::default()).await;
    let script = std::sync::Arc::clone(&server.script);
    let address = server.address;
    let mut client = server.client().await;
    let call = tokio::spawn(async move { client.get_token(get("hang")).await });
    soon(script.hanging.acquire()).await.expect("open").forget();
    let stopped = server.stop();
    // The listener is gone before the last call is.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    script.release.add_permits(1);
    soon(call).await.expect("no panic").expect("its answer");
    soon(stopped).await.expect("a clean end");
}

/// Fails when the drain has no cap, and when the handler outlives the server.
#[tokio::test]
async fn a_call_that_never_ends_is_cut_at_the_cap() {
    let mut config = config();
    config.drain_timeout = Duration::from_millis(200);
    let server = Running::start(config, Script::default()).await;
    let script = std::sync::Arc::clone(&server.script);
    let mut client = server.client().await;
    let call = tokio::spawn(async move { client.get_token(get("hang")).await });
    soon(script.hanging.acquire()).await.expect("open").forget();
    soon(server.stop()).await.expect("a clean end");
    soon(call).await.expect("no panic").expect_err("cut");
    soon(script.dropped.acquire()).await.expect("open").forget();
}

/// Fails when health does not say so first, or when the lame duck does not serve.
#[tokio::test]
async fn a_stop_is_announced_before_anybody_is_refused() {
    let mut config = config();
    config.lame_duck = Duration::from_millis(500);
    let server = Running::start(config, Script::default()).await;
    let health = server.health.clone();
    let mut client = server.client().await;
    let request = HealthCheckRequest { service: "forebay.token.v1.TokenService".to_owned() };
    let mut watcher = HealthClient::new(server.channel().await);
    let mut watch = watcher.watch(request.clone()).await.expect("a watch").into_inner();
    let first = soon(watch.message()).await.expect("no error").expect("a state");
    assert_eq!(first.status(), ServingStatus::Serving);

    let late = server.channel().await;
    let stopped = server.stop();
    let then = soon(watch.message()).await.expect("no error").expect("a state");
    assert_eq!(then.status(), ServingStatus::NotServing);
    client.get_token(get("seen")).await.expect("a lame duck serves");
    // Whatever the stores say now, it stays NOT_SERVING.
    health.set_serving(true).await;
    let reply = HealthClient::new(late).check(request).await.expect("an answer");
    assert_eq!(reply.into_inner().status(), ServingStatus::NotServing);

    // The watch has no end of its own and must not hold up the stop.
    let asked = Instant::now();
    let end = soon(watch.message()).await.expect_err("the stream is ended");
    assert_eq!(end.code(), Code::Unavailable);
    soon(stopped).await.expect("a clean end");
    assert!(asked.elapsed() < PATIENCE / 2, "the watch held up the stop");
}
