//! The server takes so many calls at once, lets so many wait, and sheds the rest; nobody
//! holds a place or a connection by standing still.

use std::sync::Arc;

use forebay_proto::token::v1::token_service_client::TokenServiceClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

use crate::harness::{HELLO, Running, Script, config, get, soon};

/// One place and four that wait: of five more calls exactly one is shed.
/// Fails when calls are not counted or the queue has no end.
#[tokio::test]
async fn the_call_after_the_queue_is_shed() {
    let mut config = config();
    config.concurrent_requests_max = 1;
    let server = Running::start(config, Script::default()).await;
    let script = Arc::clone(&server.script);
    let client = server.client().await;
    let call = |id: &'static str| {
        let mut client = client.clone();
        tokio::spawn(async move { client.get_token(get(id)).await })
    };
    let first = call("hang");
    soon(script.hanging.acquire()).await.expect("open").forget();

    let mut more = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let waiting = call("seen");
        more.spawn(async move { waiting.await.expect("no panic") });
    }
    let shed = soon(more.join_next()).await.expect("one ends").expect("no panic");
    let shed = shed.expect_err("the others wait");
    assert_eq!(shed.code(), Code::Unavailable);
    let details = shed.get_error_details();
    assert_eq!(details.error_info().expect("ErrorInfo").reason, "SERVER_OVERLOADED");
    assert!(details.retry_info().is_some_and(|info| info.retry_delay.is_some()));

    // Health is asked on behalf of everybody, so it does not queue.
    let mut health = HealthClient::new(server.channel().await);
    soon(health.check(HealthCheckRequest::default())).await.expect("an answer");

    script.release.add_permits(1);
    soon(first).await.expect("no panic").expect("an answer");
    while let Some(served) = soon(more.join_next()).await {
        served.expect("no panic").expect("served in its turn");
    }
}

/// Fails when a call that its client gave up keeps its place.
#[tokio::test]
async fn a_cancelled_call_gives_its_place_back() {
    let mut config = config();
    config.concurrent_requests_max = 1;
    let server = Running::start(config, Script::default()).await;
    let mut client = server.client().await;
    let mut other = client.clone();
    let call = tokio::spawn(async move { other.get_token(get("hang")).await });
    soon(server.script.hanging.acquire()).await.expect("open").forget();
    call.abort();
    soon(server.script.dropped.acquire()).await.expect("open").forget();
    soon(client.get_token(get("seen"))).await.expect("its place is free");
}

/// Fails when a finished call keeps its place until its client has read the reply:
/// this client lets no byte of a reply in.
#[tokio::test]
async fn a_reply_that_nobody_reads_holds_no_place() {
    let mut config = config();
    config.concurrent_requests_max = 1;
    let server = Running::start(config, Script::default()).await;
    let deaf = server.endpoint().initial_stream_window_size(0).connect().await.expect("connected");
    let unread =
        tokio::spawn(async move { TokenServiceClient::new(deaf).get_token(get("hang")).await });
    soon(server.script.hanging.acquire()).await.expect("open").forget();
    server.script.release.add_permits(1);
    soon(server.client().await.get_token(get("seen"))).await.expect("the place is free");
    assert!(!unread.is_finished(), "the reply got in");
    unread.abort();
}

/// Fails when less than the preface keeps a connection: hyper asks for signs of life
/// only after it. The clock is paused, so each wait is over at once.
#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_begin_is_closed() {
    let server = Running::start(config(), Script::default()).await;
    for said in [&HELLO[..0], &HELLO[..1], &HELLO[..23], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stalled = TcpStream::connect(server.address).await.expect("it listens");
        stalled.write_all(said).await.expect("sent");
        assert_eq!(soon(stalled.read(&mut [0; 1])).await.expect("closed"), 0, "{said:?}");
    }
}

/// Fails when a preface that comes in parts is not put together again.
#[tokio::test]
async fn a_preface_may_come_in_parts() {
    let server = Running::start(config(), Script::default()).await;
    for cut in [1, 23, 24, 25] {
        let mut slow = TcpStream::connect(server.address).await.expect("it listens");
        slow.set_nodelay(true).expect("an open socket");
        slow.write_all(&HELLO[..cut]).await.expect("sent");
        // A whole call on another connection goes by between the two parts.
        soon(server.client().await.get_token(get("seen"))).await.expect("an answer");
        slow.write_all(&HELLO[cut..]).await.expect("sent");
        let mut settings = [0; 9];
        soon(slow.read_exact(&mut settings)).await.expect("its hello");
        assert_eq!(settings[3], 4, "a SETTINGS frame");
    }
}
