//! Calls that are cancelled before anybody has looked at them.

use tonic::Code;

use crate::harness::{Running, Script, config, get, soon};
use crate::observe::code_of_span;
use crate::raw::{Raw, Said, cancelled_call, shortest_cancelled_call};

/// Far more than may wait to be looked at.
const CALLS: u32 = 10_000;

/// Fails when the library keeps its own limit, and when the connection is read to the end before the calls on it are looked at: then the
/// server takes the client for an attacker, and ends all of its calls.
#[tokio::test]
async fn ten_thousand_calls_cancelled_in_one_go_end_no_connection() {
    let server = Running::start(config(), Script::default()).await;
    let calls = (0..CALLS).flat_map(|call| shortest_cancelled_call(call * 2 + 1)).collect();
    let raw = Raw::connect(server.address).await;
    assert_eq!(raw.send_and_ping(calls).await, Said::Pong);
    soon(server.client().await.get_token(get("seen"))).await.expect("it serves");
}

/// Fails when a body that was cut off is taken for one that ended: the call would count as
/// INTERNAL, a failure of ours.
#[tokio::test]
async fn a_call_cancelled_before_its_body_is_read_is_cancelled() {
    let server = Running::start(config(), Script::default()).await;
    for number in 0..20 {
        let trace = format!("0af7651916cd43dd8448eb211c82{number:04}");
        let raw = Raw::connect(server.address).await;
        assert_eq!(raw.send_and_ping(cancelled_call(1, &trace)).await, Said::Pong);
        assert_eq!(code_of_span(&trace).await, forebay_grpc::error::code_name(Code::Cancelled));
    }
}
