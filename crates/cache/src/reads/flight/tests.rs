//! Who leads a flight, who joins it, and who looks again.

use std::future::poll_fn;
use std::task::Poll;

use super::*;
use crate::Outcome;
use crate::rig::{Number, Numbers};

const HASH: u64 = 7;

fn absent() -> Lookup<Number> {
    Lookup { value: None, outcome: Outcome::Absent }
}

/// Boards for a key whose answer L1 has, if it looks.
fn board(flights: &Arc<Flights<Number, Numbers>>, key: u64, left: u64) -> &'static str {
    let now = Instant::now();
    let times = (Some(now), now);
    match flights.board((&key, HASH), times, Some(left), || 0, || Some(absent())) {
        Boarding::Answered(_) => "answered",
        Boarding::Joined(_) => "joined",
        Boarding::Leads(..) => "leads",
    }
}

fn lead(
    flights: &Arc<Flights<Number, Numbers>>,
    key: u64,
) -> (Ticket<Number, Numbers>, Arrival<Number, Numbers>) {
    let now = Instant::now();
    match flights.board((&key, HASH), (None, now), None, || 0, || None) {
        Boarding::Leads(ticket, arrival) => (ticket, arrival),
        Boarding::Answered(_) | Boarding::Joined(_) => panic!("a strict read leads"),
    }
}

/// Fails if a flight that landed after L1 was looked at is not looked for: the key would be read
/// again.
#[tokio::test(start_paused = true)]
async fn whoever_comes_after_a_flight_has_left_looks_again() {
    let flights = Flights::new();
    let left = flights.left(HASH);
    let (ticket, arrival) = lead(&flights, 1);
    assert_eq!(board(&flights, 1, left), "joined");
    assert_eq!(board(&flights, 2, left), "leads", "another key, even with the same hash");
    ticket.land(Ok(absent()));
    assert!(arrive(arrival).await.is_ok());
    assert_eq!(board(&flights, 1, left), "answered");
    assert_eq!(board(&flights, 1, flights.left(HASH)), "leads", "nobody left since");
    assert_eq!(flights.under_way(), 0, "tickets that are dropped leave, too");
}

/// Fails if an answer that is not in L1 yet is hidden, or if a lost flight is waited for.
#[tokio::test(start_paused = true)]
async fn an_answer_is_there_from_the_moment_it_is_told() {
    let flights = Flights::new();
    let (ticket, arrival) = lead(&flights, 1);
    let waits = tokio::spawn(arrive(Arrival::at(&arrival.0)));
    tokio::task::yield_now().await;
    ticket.tell(Ok(absent()));
    assert!(waits.await.expect("task").is_ok());
    assert_eq!(board(&flights, 1, flights.left(HASH)), "joined");
    assert!(arrive(arrival).await.is_ok());
    drop(ticket);
    assert_eq!(flights.under_way(), 0);
    let (ticket, arrival) = lead(&flights, 1);
    let waits = tokio::spawn(arrive(arrival));
    tokio::task::yield_now().await;
    drop(ticket);
    let lost = waits.await.expect("task");
    assert!(matches!(lost, Err(CacheError::LoaderPanicked)), "{lost:?}");
}

/// Fails if somebody is forgotten who waits, if whoever asks is not told, or if a flight is joined
/// that was given up.
#[tokio::test(start_paused = true)]
async fn a_flight_is_deserted_when_the_last_has_gone() {
    let flights = Flights::new();
    let (ticket, first) = lead(&flights, 1);
    let waiters = ticket.waiters();
    let gone = async || {
        poll_fn(|task| if waiters.have_gone(task) { Poll::Ready(()) } else { Poll::Pending }).await
    };
    let mut gone = Box::pin(gone());
    assert!(futures_util::poll!(&mut gone).is_pending() && !waiters.close());
    let second = Arrival::at(&first.0);
    drop(first);
    assert!(futures_util::poll!(&mut gone).is_pending() && !waiters.close(), "one is left");
    let watch = tokio::spawn(async move { drop(second) });
    gone.await;
    watch.await.expect("task");
    assert_eq!(
        board(&flights, 1, flights.left(HASH)),
        "joined",
        "it can be joined until it is closed"
    );
    assert!(waiters.close());
    assert_eq!(flights.under_way(), 0);
    assert_eq!(board(&flights, 1, flights.left(HASH)), "leads");
    drop(ticket);
}
