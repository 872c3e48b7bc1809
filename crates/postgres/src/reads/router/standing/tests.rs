//! Which reads a replica may answer, under a paused clock.

use std::time::Duration;

use tokio::time::{Instant, advance};

use super::{BELIEVED_FOR, Behind, Seen, Standing, VOTES_MAX};
use crate::reads::router::{Consistency, Lsn, ReplicaState};

const SECOND: Duration = Duration::from_secs(1);

fn seen(replayed: u64, bytes: u64, time: Duration) -> Seen {
    let behind = Behind { bytes, time: Some(time), asked_at: Instant::now() };
    Seen { replayed: Lsn::new(replayed), behind: Some(behind) }
}

fn following(replayed: u64, bytes: u64, time: Duration) -> Standing {
    let mut standing = Standing::new();
    standing.follows(seen(replayed, bytes, time), Instant::now());
    standing
}

/// Fails when a position is taken for reached that is not, or believed for ever.
#[tokio::test(start_paused = true)]
async fn a_position_is_reached_or_it_is_not() {
    let standing = following(100, 0, Duration::ZERO);
    for (lsn, answers) in [(0, true), (100, true), (101, false)] {
        assert_eq!(standing.answers(Consistency::AtLeast(Lsn::new(lsn))), answers, "{lsn}");
    }
    assert!(!standing.answers(Consistency::Primary));
    advance(BELIEVED_FOR + SECOND).await;
    assert!(!standing.answers(Consistency::AtLeast(Lsn::new(1))), "nobody looked since");
}

/// Fails when the time since the last look is not counted, or the lag found by it.
#[tokio::test(start_paused = true)]
async fn a_read_is_never_older_than_it_may_be() {
    advance(SECOND * 100).await;
    let level = following(100, 0, Duration::ZERO);
    let late = following(100, 8, SECOND * 3);
    let lagging = |seconds| Consistency::Lagging(SECOND * seconds);
    assert!(level.answers(lagging(1)) && !late.answers(lagging(2)) && late.answers(lagging(3)));
    advance(SECOND * 2).await;
    assert!(!level.answers(lagging(1)) && level.answers(lagging(2)));
    assert!(!late.answers(lagging(4)) && late.answers(lagging(5)));
}

/// Fails when a look without the primary, or one at a restarted replica, makes it younger.
#[tokio::test(start_paused = true)]
async fn what_is_not_known_is_not_assumed() {
    advance(SECOND * 100).await;
    let mut standing = following(100, 0, Duration::ZERO);
    advance(SECOND * 5).await;
    standing.follows(Seen { replayed: Lsn::new(200), behind: None }, Instant::now());
    assert!(!standing.answers(Consistency::Lagging(SECOND * 4)), "the primary said nothing");
    assert!(standing.answers(Consistency::Lagging(SECOND * 5)));
    let behind = Behind { bytes: 64, time: None, asked_at: Instant::now() };
    standing.follows(Seen { replayed: Lsn::new(200), behind: Some(behind) }, Instant::now());
    assert!(!standing.answers(Consistency::Lagging(SECOND * 4)), "nothing was replayed");
    assert_eq!((standing.lag_bytes, standing.lag), (64, SECOND * 5));
    standing.follows(Seen { replayed: Lsn::new(150), behind: None }, Instant::now());
    assert!(!standing.answers(Consistency::Lagging(SECOND * 50)), "it went back");
    assert!(!standing.answers(Consistency::AtLeast(Lsn::new(151))), "it went back");
}

/// Fails when one answer in between does not count, or when a replica that failed is never back.
#[tokio::test(start_paused = true)]
async fn failures_in_a_row_end_it_and_a_look_brings_it_back() {
    let mut standing = following(100, 0, Duration::ZERO);
    for _ in 1..VOTES_MAX {
        standing.vote();
    }
    standing.reached(Lsn::new(100));
    assert!(!standing.has_votes());
    for _ in 1..VOTES_MAX {
        standing.vote();
    }
    assert_eq!(standing.state, ReplicaState::Following);
    standing.vote();
    assert_eq!((standing.state, standing.ejections), (ReplicaState::Ejected, 1));
    assert!(!standing.answers(Consistency::AtLeast(Lsn::new(1))));
    standing.follows(seen(100, 0, Duration::ZERO), Instant::now());
    assert!(standing.answers(Consistency::AtLeast(Lsn::new(100))));
}
