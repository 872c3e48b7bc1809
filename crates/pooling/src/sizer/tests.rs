//! Steps of the sizer, as tables.

use std::time::Duration;

use tokio::time::{Instant, advance};

use super::Sizer;

const STEP: Duration = Sizer::REGROW_EVERY;
const HOLD: Duration = Duration::from_millis(10);

/// Fails when refusals are not answered with fewer permits, or with none at all.
#[tokio::test(start_paused = true)]
async fn a_refusal_takes_three_tenths_and_what_is_not_there() {
    for (permits, open, expected) in
        [(20, 20, 14), (20, 19, 14), (20, 5, 5), (8, 8, 5), (8, 0, 1), (2, 2, 1), (1, 1, 1)]
    {
        let mut sizer = Sizer::new(permits, STEP);
        assert_eq!(sizer.refused(open, Instant::now()), expected, "{permits} {open}");
    }
}

/// Fails when each of the attempts that were refused together counts.
#[tokio::test(start_paused = true)]
async fn refusals_at_the_same_moment_count_once() {
    let mut sizer = Sizer::new(20, STEP);
    let permits: Vec<_> = (0..8).map(|_| sizer.refused(18, Instant::now())).collect();
    assert_eq!(permits, [14; 8]);
    assert_eq!(sizer.refused(12, Instant::now()), 12, "but what is open is known better now");
    advance(Duration::from_secs(1)).await;
    assert_eq!(sizer.refused(12, Instant::now()), 8);
}

/// Fails when permits come back by themselves, all at once or beyond the maximum.
#[tokio::test(start_paused = true)]
async fn permits_come_back_one_a_step_while_somebody_waits() {
    let mut sizer = Sizer::new(8, STEP);
    assert_eq!(sizer.refused(6, Instant::now()), 5);
    let mut steps = Vec::new();
    for waiting in [0, 0, 1, 1, 0, 1, 1, 1] {
        assert_eq!(sizer.tick(Instant::now(), 100, Some(HOLD)), sizer.permits(), "too early");
        advance(STEP).await;
        steps.push(sizer.tick(Instant::now(), waiting, Some(HOLD)));
    }
    assert_eq!(steps, [5, 5, 6, 7, 7, 8, 8, 8]);
}

/// Fails when permits come back although each is held longer for it.
#[tokio::test(start_paused = true)]
async fn a_server_that_gets_slower_gets_no_more() {
    let mut sizer = Sizer::new(8, STEP);
    sizer.refused(8, Instant::now());
    let mut steps = Vec::new();
    for hold in [HOLD, HOLD * 2, HOLD * 2, HOLD, HOLD * 6 / 5] {
        advance(STEP).await;
        steps.push(sizer.tick(Instant::now(), 1, Some(hold)));
    }
    assert_eq!(steps, [6, 6, 6, 7, 8]);
}

#[tokio::test(start_paused = true)]
async fn work_that_takes_longer_by_nature_is_the_new_normal_in_the_end() {
    let mut sizer = Sizer::new(8, STEP);
    sizer.tick(Instant::now(), 0, Some(HOLD));
    sizer.refused(8, Instant::now());
    let mut steps_without = 0;
    while sizer.permits() == 5 {
        advance(STEP).await;
        sizer.tick(Instant::now(), 1, Some(HOLD * 2));
        steps_without += 1;
    }
    assert!((4..=16).contains(&steps_without), "{steps_without}");
}
