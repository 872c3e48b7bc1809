//! When an L1 entry is trusted, and when L2 is.

use std::time::Duration;

use super::*;
use crate::local::tests::slot_at;

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn an_entry_without_announcements_is_trusted_for_the_bound_only() {
    let link = Link::new(HOUR);
    let slot = slot_at(Instant::now(), HOUR * 2, link.session());
    for (bound, age, trusted) in
        [(100 * MS, 100 * MS, true), (100 * MS, 101 * MS, false), (HOUR * 9, HOUR + MS, false)]
    {
        let now = slot.fetched_at + age;
        assert_eq!(link.trusts_l1(&slot, now, bound), trusted, "{bound:?} {age:?}");
    }
}

/// Each line removes one of the conditions; each was needed.
#[tokio::test(start_paused = true)]
async fn announcements_without_a_gap_prolong_trust() {
    let link = Link::new(HOUR);
    let start = Instant::now();
    link.connected();
    let slot = slot_at(start, HOUR, link.session());
    let older = slot_at(start, HOUR, 0);
    link.caught_up(start + 60_000 * MS);
    let now = start + 60_050 * MS;
    assert!(link.trusts_l1(&slot, now, 100 * MS));
    assert!(!link.trusts_l1(&slot, now, 49 * MS), "the last sign of life is too old");
    assert!(!link.trusts_l1(&older, now, 100 * MS), "read before the connection");
    assert!(!link.trusts_l1(&slot, start + HOUR, HOUR), "expired");
    link.disconnected();
    assert!(!link.trusts_l1(&slot, now, 100 * MS), "announcements may be missed");
    link.connected();
    link.caught_up(start + 60_040 * MS);
    assert!(!link.trusts_l1(&slot, now, 100 * MS), "announcements may have been missed");
}

/// What happens, how, and how many connections have been replaced afterwards.
type End = (&'static str, fn(&Link), u64);

#[tokio::test]
async fn leave_to_use_l2_ends_with_everything_that_may_have_hidden_an_outage() {
    let ends: [End; 5] = [
        ("subscription lost", Link::disconnected, 3),
        ("subscription replaced", Link::connected, 3),
        ("everything announced", Link::renew, 3),
        ("changes given up", Link::require_epoch, 3),
        ("lane replaced", |_| {}, 4),
    ];
    for (what, end, replaced) in ends {
        let link = Link::new(HOUR);
        assert_eq!(link.trust(3), None, "never checked");
        link.connected();
        link.grant(link.session(), 3);
        assert!(link.trust(3).is_some());
        end(&link);
        assert_eq!(link.trust(replaced), None, "{what}");
    }
}

#[tokio::test]
async fn a_requirement_made_while_an_epoch_is_made_stays_open() {
    let link = Link::new(HOUR);
    link.require_epoch();
    let first = link.epoch_required().expect("open");
    link.require_epoch();
    link.epoch_made(first);
    let second = link.epoch_required().expect("still open");
    link.epoch_made(second);
    assert_eq!(link.epoch_required(), None);
}

#[tokio::test]
async fn only_a_first_connection_at_the_first_attempt_has_number_one() {
    let link = Link::new(HOUR);
    link.connected();
    assert_eq!(link.connection(), 1);
    let link = Link::new(HOUR);
    link.disconnected();
    link.connected();
    assert_ne!(link.connection(), 1);
}
