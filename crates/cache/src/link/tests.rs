//! When L2 is trusted.

use super::*;

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
        let link = Link::new();
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
    let link = Link::new();
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
    let link = Link::new();
    link.connected();
    assert_eq!(link.connection(), 1);
    let link = Link::new();
    link.disconnected();
    link.connected();
    assert_ne!(link.connection(), 1);
}
