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
    assert!(matches!(collector.join(Keys(1)), Joined::Conducts(_)));
    let (batch, is_last) = collector.next().await.expect("one waits");
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
    assert!(matches!(collector.join(Keys(1)), Joined::Conducts(_)));
    for _ in 0..500 {
        let collector = Arc::clone(&collector);
        callers.push(tokio::spawn(async move { collector.join(Keys(1)) }));
    }
    let (batch, is_last) = collector.next().await.expect("one waits");
    for caller in callers {
        conductors += usize::from(matches!(caller.await.expect("task"), Joined::Conducts(_)));
    }
    assert_eq!((batch.passengers.len(), is_last, conductors), (501, true, 0));
}

/// Fails if the window is left out, or if it stays closed when the batch before is back.
#[tokio::test(start_paused = true)]
async fn while_one_is_under_way_others_wait_for_the_window_or_its_return() {
    let collector = Collector::new(LIMITS);
    let first = collector.depart_alone(Keys(1)).expect("alone");
    assert!(matches!(collector.join(Keys(2)), Joined::Conducts(_)));
    let before = Instant::now();
    let (second, _) = collector.next().await.expect("one waits");
    assert_eq!(before.elapsed(), WINDOW);
    drop((first, second));

    let first = collector.depart_alone(Keys(1)).expect("alone");
    assert!(matches!(collector.join(Keys(2)), Joined::Conducts(_)));
    let before = Instant::now();
    {
        let mut next = Box::pin(collector.next());
        assert!(futures_util::poll!(&mut next).is_pending());
        drop(first);
        assert!(next.await.is_some());
    }
    assert_eq!(before.elapsed(), Duration::ZERO, "it came back first");
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_does_not_wait_for_the_window_but_for_its_place() {
    let collector = Collector::new(LIMITS);
    let first = collector.depart_alone(Keys(1)).expect("alone");
    let before = Instant::now();
    assert!(matches!(collector.join(Keys(1000)), Joined::Conducts(_)));
    assert!(matches!(collector.join(Keys(100)), Joined::Waiting(_)));
    let (second, is_last) = collector.next().await.expect("one waits");
    assert_eq!((sizes(&second), is_last), (vec![1000], false), "as many as fit, never a part");
    assert_eq!(before.elapsed(), Duration::ZERO);
    let mut next = Box::pin(collector.next());
    assert!(futures_util::poll!(&mut next).is_pending());
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert!(futures_util::poll!(&mut next).is_pending(), "two are under way, and no more may be");
    drop(first);
    let (third, is_last) = next.await.expect("one waits");
    assert_eq!((sizes(&third), is_last), (vec![100], true));
}

/// Fails if the queue has no bound.
#[tokio::test(start_paused = true)]
async fn more_than_may_wait_is_refused() {
    let collector = Collector::new(LIMITS);
    let first = collector.depart_alone(Keys(1)).expect("alone");
    assert!(matches!(collector.join(Keys(5000)), Joined::Conducts(_)), "nobody else waits");
    assert!(matches!(collector.join(Keys(1)), Joined::Refused(Keys(1))));
    assert_eq!(collector.usage(), (1, 5000));
    let (batch, _) = collector.next().await.expect("one waits");
    assert_eq!(sizes(&batch), [5000], "one at least departs");
    drop((first, batch));
    assert_eq!(collector.usage(), (0, 0));
}

/// Fails if whoever leaves is still counted, or departs all the same.
#[tokio::test(start_paused = true)]
async fn whoever_leaves_makes_room_for_others() {
    let collector = Collector::new(LIMITS);
    let first = collector.depart_alone(Keys(1)).expect("alone");
    let Joined::Conducts(leaves) = collector.join(Keys(2000)) else { panic!("nobody waits") };
    let Joined::Waiting(stays) = collector.join(Keys(1000)) else { panic!("somebody waits") };
    assert!(matches!(collector.join(Keys(1)), Joined::Refused(_)));
    assert_eq!(collector.ask_less(stays, |keys| keys.0 = 600), Some(600));
    assert_eq!(collector.usage(), (1, 2600));
    assert_eq!(collector.ask_less(leaves, |keys| keys.0 = 0), Some(0));
    assert_eq!(collector.usage(), (1, 600));
    assert!(matches!(collector.join(Keys(2400)), Joined::Waiting(_)));
    let (second, is_last) = collector.next().await.expect("two wait");
    assert_eq!((sizes(&second), is_last), (vec![600], false));
    assert_eq!(collector.ask_less(stays, |keys| keys.0 = 0), None, "it has departed");
    drop((first, second));
}

/// Fails if a batch without anybody departs, or if nobody conducts those who come then.
#[tokio::test(start_paused = true)]
async fn nothing_departs_when_all_have_left() {
    let collector = Collector::new(LIMITS);
    let first = collector.depart_alone(Keys(1)).expect("alone");
    let Joined::Conducts(number) = collector.join(Keys(1)) else { panic!("nobody waits") };
    assert_eq!(collector.ask_less(number, |keys| keys.0 = 0), Some(0));
    assert!(collector.next().await.is_none());
    assert!(matches!(collector.join(Keys(1)), Joined::Conducts(_)));
    let (second, is_last) = collector.next().await.expect("one waits");
    assert_eq!((sizes(&second), is_last), (vec![1], true));
    drop((first, second));
}
