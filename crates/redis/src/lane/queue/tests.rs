//! Order, room and places of what waits.

use std::sync::Arc;

use super::{Queue, Queued};
use crate::idempotent::Spec;
use crate::offline::Offline;
use crate::request::{Packed, Request};

const COMMAND: Spec = Spec::once("APPEND");

fn packed() -> Packed {
    Packed::new("APPEND", 2, 2).arg(b"k").arg(b"v")
}

fn command() -> Request {
    Request::command(COMMAND, packed())
}

fn script() -> Request {
    Request::script(COMMAND, "script", packed())
}

fn pipeline(commands: usize) -> Request {
    Request::scripts(COMMAND, "script", (0..commands).map(|_| packed()).collect())
}

fn tickets(taken: &[Queued]) -> Vec<u64> {
    taken.iter().map(|queued| queued.ticket).collect()
}

#[test]
fn requests_leave_in_the_order_in_which_they_came() {
    let mut queue = Queue::default();
    let mut answers: Vec<_> = (0..6).map(|_| queue.push(command(), 0, None)).collect();
    assert_eq!(queue.withdraw(3), Some(false), "one in the middle goes");
    assert_eq!(queue.withdraw(3), None, "and is not there any more");
    assert_eq!(tickets(&queue.take_message(2)), [1, 2]);
    assert_eq!(queue.withdraw(2), None, "what was sent cannot be withdrawn");
    assert_eq!(tickets(&queue.take_message(100)), [4, 5, 6]);
    assert!(queue.is_empty());
    answers.clear();
}

/// The answers of a message are handed out together, so what may be slow travels apart.
#[test]
fn commands_scripts_and_pipelines_do_not_share_a_message() {
    let mut queue = Queue::default();
    let requests = [command(), command(), script(), script(), pipeline(9), pipeline(2), command()];
    let _answers: Vec<_> =
        requests.into_iter().map(|request| queue.push(request, 0, None)).collect();
    let mut messages = Vec::new();
    while !queue.is_empty() {
        // A pipeline larger than the room goes all the same, or it would wait for ever.
        messages.push(tickets(&queue.take_message(4)));
    }
    assert_eq!(messages, [vec![1, 2], vec![3, 4], vec![5], vec![6], vec![7]]);
}

/// Fails when a lost connection turns the long queue of a busy lane into an offline queue of the
/// same length.
#[test]
fn a_lost_connection_leaves_what_the_offline_queue_has_room_for() {
    let offline = Arc::new(Offline::new(2, 1000));
    let mut queue = Queue::default();
    let _answers: Vec<_> = (0..5).map(|_| queue.push(command(), 0, None)).collect();
    assert_eq!(tickets(&queue.went_offline(&offline)), [3, 4, 5]);
    assert_eq!((queue.len(), offline.held().requests), (2, 2));
    assert_eq!(queue.withdraw(1), Some(true), "it waited for a connection");
    assert_eq!(offline.held().requests, 1);
    queue.came_online();
    assert_eq!((queue.len(), offline.held().requests), (1, 0));
}

#[test]
fn those_who_saw_enough_failures_give_up() {
    let offline = Arc::new(Offline::new(9, 1000));
    let mut queue = Queue::default();
    let _answers: Vec<_> = [0, 0, 3]
        .map(|failures| queue.push(command(), failures, offline.take(0).ok()))
        .into_iter()
        .collect();
    assert!(queue.take_while_since(3, 3).is_empty());
    assert_eq!(tickets(&queue.take_while_since(4, 3)), [1, 2]);
    assert_eq!(queue.len(), 1);
}
