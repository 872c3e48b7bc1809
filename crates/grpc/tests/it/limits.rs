//! The server takes so many calls at once, lets so many wait, and sheds the rest.

use std::sync::Arc;

use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

use crate::harness::{Running, Script, config, get, soon};

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
