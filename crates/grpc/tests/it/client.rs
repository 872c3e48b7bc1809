//! The kit's client: what it tries again, what it does not, and what it reports.

use std::sync::atomic::Ordering;
use std::time::Duration;

use forebay_grpc::client::{connect, idempotent};
use forebay_proto::token::v1::token_service_client::TokenServiceClient;
use tokio::time::Instant;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{Running, Script, client_config, config, get, soon};

/// Calls that reach the server when the first `failures` fail.
async fn check(failures: usize, may_repeat: bool, expected_calls: usize, answered: bool) {
    let script = Script { failures: failures.into(), ..Script::default() };
    let server = Running::start(config(), script).await;
    let mut client = server.kit_client();
    let result = if may_repeat {
        soon(client.get_token(idempotent(get("flaky")))).await
    } else {
        soon(client.get_token(get("flaky"))).await
    };
    let calls = server.script.calls.load(Ordering::SeqCst);
    assert_eq!((calls, result.is_ok()), (expected_calls, answered), "{failures} {may_repeat}");
    if let Err(status) = result {
        // The peer's own details arrive, for whoever maps them.
        let info = status.get_details_error_info().expect("ErrorInfo");
        assert_eq!((status.code(), info.reason.as_str()), (Code::Unavailable, "FLAKY"));
    }
}

/// Fails when a call that may not be sent twice is, or one that may is not.
#[tokio::test]
async fn only_idempotent_calls_are_tried_again() {
    check(0, true, 1, true).await;
    check(2, true, 3, true).await;
    check(3, true, 3, false).await;
    check(1, false, 1, false).await;
}

/// Fails when other errors are tried again.
#[tokio::test]
async fn an_answer_is_final() {
    let server = Running::start(config(), Script::default()).await;
    for id in ["not_found", "internal"] {
        let before = server.script.calls.load(Ordering::SeqCst);
        let call = server.kit_client().get_token(idempotent(get(id))).await;
        call.expect_err("an error");
        assert_eq!(server.script.calls.load(Ordering::SeqCst), before + 1, "{id}");
    }
}

/// Fails when RetryInfo is not read: the pauses of our own are below 50 ms at first.
#[tokio::test]
async fn waits_as_long_as_the_peer_asks() {
    let asked = Duration::from_millis(200);
    let script = Script { failures: 1.into(), retry_after: asked, ..Script::default() };
    let server = Running::start(config(), script).await;
    let started = Instant::now();
    let call = server.kit_client().get_token(idempotent(get("flaky"))).await;
    call.expect("the second attempt");
    assert!(started.elapsed() >= asked);
}

/// Fails when the call waits, and so holds the request of its own caller.
#[tokio::test]
async fn a_long_pause_is_left_to_the_caller() {
    let asked = Duration::from_millis(300);
    let script = Script { failures: 1.into(), retry_after: asked, ..Script::default() };
    let server = Running::start(config(), script).await;
    let status = soon(server.kit_client().get_token(idempotent(get("flaky")))).await;
    let status = status.expect_err("the first answer");
    assert_eq!(status.code(), Code::Unavailable);
    let hint = status.get_details_retry_info().expect("RetryInfo");
    assert_eq!(hint.retry_delay, Some(asked));
    assert_eq!(server.script.calls.load(Ordering::SeqCst), 1);
}

/// The same channel fails fast while the peer is away and works once it is there.
#[tokio::test]
async fn a_peer_that_comes_back_is_found() {
    let first = Running::start(config(), Script::default()).await;
    let address = first.address;
    let mut config = config();
    config.listen = address;
    let channel = connect(&client_config(address)).expect("an address");
    let mut client = TokenServiceClient::new(channel);
    client.get_token(get("seen")).await.expect("it is there");
    soon(first.stop()).await.expect("a clean end");

    let status = soon(client.get_token(get("seen"))).await.expect_err("it is away");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().expect("ErrorInfo").reason, "PEER_UNREACHABLE");
    assert!(details.retry_info().is_some());
    assert!(!status.message().contains("127.0.0.1"), "{status:?}");
    assert!(std::error::Error::source(&status).is_some(), "the cause is kept for the log");

    let second = Running::start(config, Script::default()).await;
    soon(client.get_token(idempotent(get("seen")))).await.expect("it is back");
    soon(second.stop()).await.expect("a clean end");
}

/// Fails when a connection that breaks under a call is reported as something else.
#[tokio::test]
async fn a_broken_connection_is_unavailable() {
    let mut config = config();
    config.drain_timeout = Duration::ZERO;
    let server = Running::start(config, Script::default()).await;
    let script = std::sync::Arc::clone(&server.script);
    let mut client = server.kit_client();
    let call = tokio::spawn(async move { client.get_token(get("hang")).await });
    soon(script.hanging.acquire()).await.expect("open").forget();
    soon(server.stop()).await.expect("a clean end");
    let status = soon(call).await.expect("no panic").expect_err("broken");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}

#[test]
fn an_endpoint_must_be_an_address() {
    let mut config = client_config(([127, 0, 0, 1], 1).into());
    config.endpoint = "not an address".to_owned();
    let error = connect(&config).expect_err("no address");
    assert!(error.to_string().contains("not an address"), "{error}");
}
