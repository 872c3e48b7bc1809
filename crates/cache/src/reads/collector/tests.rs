//! The rule of departure. Time is tokio's and stands still unless a test moves it.

use super::*;

const LIMITS: Limits =
    Limits { batch_keys_max: BATCH_KEYS_MAX, under_way_max: 2, waiting_keys_max: 3000 };

/// A request for so many keys.
#[derive(Debug, PartialEq, Eq)]
struct Keys(usize);

impl Passenger for Keys {
    fn keys(&self) -> usize {
        self.0
    }
}

fn sizes(batch: &Batch<Keys>) -> Vec<usize> {
    batch.passengers.iter().map(Passenger::keys).collect()
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_alone_departs_at_once() {
    let collector = Collector::new(LIMITS);
    let before = Instant::now();
    assert!(matches!(collector.join(Keys(1)), Joined::Conducts));
    let (batch, is_last) = collector.next().await;
    assert_eq!((sizes(&batch), is_last), (vec![1], true));
    assert!(collector.depart_alone(Keys(1)).is_err(), "one is under way");
    drop(batch);
    let alone = collector.depart_alone(Keys(1)).expect("nothing is under way");
    assert_eq!(sizes(&alone), [1]);
    assert_eq!(Instant::now(), before, "nobody waited");
}

/// Fails if a batch departs before those had their turn who are ready to ask.
#[tokio::test(start_paused = true)]
async fn those_who_ask_at_the_same_time_depart_together() {
    let collector = Collector::new(LIMITS);
    let mut conductors = 0;
    let mut callers = Vec::new();
    assert!(matches!(collector.join(Keys(1)), Joined::Conducts));
    for _ in 0..500 {
        let collector = Arc::clone(&collector);
        callers.push(tokio::spawn(async move { collector.join(Keys(1)) }));
    }
    let (batch, is_last) = collector.next().await;
    for caller in callers {
        conductors += usize::from(matches!(caller.await.expect("task"), Joined::Conducts));
    }
    assert_eq!((batch.passengers.len(), is_last, conductors), (501, true, 0));
}

/// Fails if the window is left out, or if it stays closed when the batch before is back.
#[tokio::test(start_paused = true)]
async fn while_one_is_under_way_others_wait_for_the_window_or_its_return() {
    let collector = Collector::new(LIMITS);
    let first = collector.depart_alone(Keys(1)).expect("alone");
    assert!(matches!(collector.join(Keys(2)), Joined::Conducts));
    let before = Instant::now();
    let (second, _) = collector.next().await;
    assert_eq!(before.elapsed(), WINDOW);
    drop((first, second));

    let first = collector.depart_alone(Keys(1)).expect("alone");
    assert!(matches!(collector.join(Keys(2)), Joined::Conducts));
    let before = Instant::now();
    {
        let mut next = Box::pin(collector.next());
        assert!(futures_util::poll!(&mut next).is_pending());
        drop(first);
        next.await;
    }
    assert_eq!(before.elapsed(), Duration::ZERO, "it came back first");
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_does_not_wait_for_the_window_but_for_its_place() {
    let collector = Collector::new(LIMITS);
    let first = collector.depart_alone(Keys(1)).expect("alone");
    let before = Instant::now();
    assert!(matches!(collector.join(Keys(1000)), Joined::Conducts));
    assert!(matches!(collector.join(Keys(100)), Joined::Waiting));
    let (second, is_last) = collector.next().await;
    assert_eq!((sizes(&second), is_last), (vec![1000], false), "as many as fit, never a part");
    assert_eq!(before.elapsed(), Duration::ZERO);
    let mut next = Box::pin(collector.next());
    assert!(futures_util::poll!(&mut next).is_pending());
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert!(futures_util::poll!(&mut next).is_pending(), "two are under way, and no more may be");
    drop(first);
    let (third, is_last) = next.await;
    assert_eq!((sizes(&third), is_last), (vec![100], true));
}

/// Fails if the queue has no bound.
#[tokio::test(start_paused = true)]
async fn more_than_may_wait_is_refused() {
    let collector = Collector::new(LIMITS);
    let first = collector.depart_alone(Keys(1)).expect("alone");
    assert!(matches!(collector.join(Keys(5000)), Joined::Conducts), "nobody else waits");
    assert!(matches!(collector.join(Keys(1)), Joined::Refused(Keys(1))));
    assert_eq!(collector.usage(), (1, 5000));
    let (batch, _) = collector.next().await;
    assert_eq!(sizes(&batch), [5000], "one at least departs");
    drop((first, batch));
    assert_eq!(collector.usage(), (0, 0));
}
