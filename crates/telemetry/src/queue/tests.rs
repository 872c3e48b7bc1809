//! The queue stays within its bound and counts what it drops.

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status};
use opentelemetry_sdk::trace::{SpanEvents, SpanLinks};

use super::*;

fn span(name: u64) -> SpanData {
    SpanData {
        span_context: SpanContext::empty_context(),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: name.to_string().into(),
        start_time: std::time::UNIX_EPOCH,
        end_time: std::time::UNIX_EPOCH,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: opentelemetry::InstrumentationScope::default(),
    }
}

/// Without the bound a collector that is away would cost all memory.
#[test]
fn more_spans_than_the_bound_are_dropped_and_counted() {
    let check = |pushed: u64, kept: usize, dropped: u64| {
        let queue = SpanQueue::new(100);
        (0..pushed).for_each(|name| queue.push(span(name)));
        assert_eq!(queue.len(), kept);
        assert_eq!(queue.dropped.load(Ordering::Relaxed), dropped);
    };
    check(99, 99, 0);
    check(100, 100, 0);
    check(1_000, 100, 900);
}

#[test]
fn batches_are_bounded_and_oldest_first() {
    let queue = SpanQueue::new(10_000);
    (0..600).for_each(|name| queue.push(span(name)));
    let batch = queue.take_batch();
    assert_eq!(batch.len(), BATCH_SPANS_MAX);
    assert_eq!(batch[0].name, "0");
    assert_eq!(queue.take_batch().len(), 600 - BATCH_SPANS_MAX);
    assert!(queue.take_batch().is_empty());
}

/// A span must not cost a wake-up of another thread; a batch may.
#[tokio::test]
async fn only_the_first_span_and_a_full_batch_wake_the_exporter() {
    use tokio::time::timeout;
    let queue = SpanQueue::new(10_000);
    let woken = async || timeout(Duration::ZERO, queue.wake.notified()).await.is_ok();
    queue.push(span(0));
    assert!(woken().await);
    (1..511).for_each(|name| queue.push(span(name)));
    assert!(!woken().await);
    queue.push(span(511));
    assert!(woken().await);
}
