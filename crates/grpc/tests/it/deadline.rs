//! A deadline reaches every hop and nobody works past it.

use std::time::Duration;

use forebay_grpc::client;
use forebay_pooling::Deadline;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use crate::harness::{DOMAIN, Running, Script, client_config, config, get, soon};

/// Milliseconds that the handler had left, as it saw it.
async fn left_of(server: &Running, id: &str, asked: Option<&'static str>) -> u64 {
    let mut request = Request::new(get(id));
    if let Some(asked) = asked {
        request.metadata_mut().insert("grpc-timeout", asked.parse().expect("a value"));
    }
    let reply = soon(server.client().await.get_token(request)).await.expect("an answer");
    reply.into_inner().token.expect("a token").name.parse().expect("a deadline in scope")
}

/// Fails when the default, the cap or the header is not honoured.
#[tokio::test]
async fn a_handler_sees_its_deadline() {
    let server = Running::start(config(), Script::default()).await;
    for (asked, above, up_to) in
        [(None, 20_000, 30_000), (Some("15S"), 10_000, 15_000), (Some("10H"), 50_000, 60_000)]
    {
        let left = left_of(&server, "seen", asked).await;
        assert!((above..=up_to).contains(&left), "asked {asked:?}, has {left} ms");
    }
}

/// Fails when a deadline that passes does not end the call, or does not drop its handler.
#[tokio::test]
async fn a_passed_deadline_ends_the_handler() {
    let mut config = config();
    config.timeout_default = Duration::from_millis(50);
    let server = Running::start(config, Script::default()).await;
    let status = soon(server.client().await.get_token(get("hang"))).await.expect_err("late");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let info = status.get_details_error_info().expect("ErrorInfo");
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("DEADLINE_EXCEEDED", DOMAIN));
    soon(server.script.dropped.acquire()).await.expect("open").forget();
}

#[tokio::test]
async fn a_call_without_time_left_is_not_started() {
    let server = Running::start(config(), Script::default()).await;
    let mut request = Request::new(get("seen"));
    request.metadata_mut().insert("grpc-timeout", "0n".parse().expect("a value"));
    soon(server.client().await.get_token(request)).await.expect_err("no time");
    assert_eq!(server.script.calls.load(std::sync::atomic::Ordering::SeqCst), 0);
}

async fn chain() -> (Running, Running) {
    let last = Running::start(config(), Script::default()).await;
    let next = client::connect(&client_config(last.address)).expect("an address");
    let script = Script { next: Some(next), ..Script::default() };
    (Running::start(config(), script).await, last)
}

/// Fails when the client does not send what is left: the last server would
/// then give its own 30 s.
#[tokio::test]
async fn the_next_hop_gets_what_is_left() {
    let (first, _last) = chain().await;
    let left = left_of(&first, "chain:seen", Some("9S")).await;
    assert!((1..=9000).contains(&left), "{left} ms");
}

/// Fails when the deadline in scope does not cut a call short.
#[tokio::test]
async fn one_deadline_ends_the_whole_chain() {
    let (first, last) = chain().await;
    let deadline = Deadline::after(Duration::from_millis(200));
    let mut client = first.kit_client();
    let status = soon(deadline.scope(client.get_token(get("chain:hang")))).await;
    let status = status.expect_err("late");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(status.get_details_error_info().is_some());
    soon(last.script.dropped.acquire()).await.expect("open").forget();

    let over = Deadline::after(Duration::ZERO);
    let status = soon(over.scope(client.get_token(get("seen")))).await.expect_err("no time");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
}
