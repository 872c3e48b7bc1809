//! What waits for Redis is complete or given up as a whole.

use super::*;
use crate::metrics::Metrics;

fn change(key: &str, version: i64) -> Invalidation {
    Invalidation {
        entry_key: key.to_owned(),
        entity: "text",
        schema: 1,
        key_text: key.to_owned(),
        version,
        force: false,
        is_list: false,
        is_own: true,
    }
}

fn versions(pending: &Pending) -> Vec<(String, i64)> {
    let batch = pending.batch(100);
    let mut waiting: Vec<_> =
        batch.into_iter().map(|(_, change)| (change.entry_key, change.version)).collect();
    waiting.sort();
    waiting
}

#[tokio::test]
async fn the_newest_change_of_a_key_waits() {
    let dataset = Dataset::default();
    let pending = Pending::new(Metrics::new());
    pending.add(vec![change("a", 2), change("b", 1), change("a", 1)], &dataset);
    assert_eq!(versions(&pending), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
    let sent = pending.batch(100);
    let ticket = pending.next_ticket();
    pending.add(vec![change("a", 3)], &dataset);
    assert!(!pending.is_settled_before(ticket));
    pending.confirm(&sent);
    assert_eq!(versions(&pending), [("a".to_owned(), 3)], "confirmed was the older one");
    assert_eq!((pending.version_of("a"), pending.version_of("b")), (Some(3), None));
    assert!(!pending.is_settled_before(ticket), "what replaced the older one waits in its place");
    pending.confirm(&pending.batch(100));
    assert!(pending.is_settled_before(ticket));
    pending.add(vec![Invalidation { force: true, ..change("a", 0) }], &dataset);
    assert_eq!(pending.version_of("a"), Some(i64::MAX), "no version is good enough");
    assert!(!dataset.is_renewing());
}

/// Fails if changes that do not fit are dropped without a new epoch.
#[tokio::test]
async fn too_many_changes_are_given_up_for_a_new_epoch() {
    let dataset = Dataset::default();
    let pending = Pending::with_max(2, Metrics::new());
    pending.add(vec![change("a", 1), change("b", 1)], &dataset);
    pending.add(vec![change("a", 2)], &dataset);
    assert!(!dataset.is_renewing(), "a key that waits needs no more room");
    pending.add(vec![change("c", 1)], &dataset);
    assert!(dataset.is_renewing());
    assert_eq!(pending.len(), 0);
}

#[tokio::test]
async fn settled_waits_for_the_confirmation() {
    let dataset = Dataset::default();
    let pending = Pending::new(Metrics::new());
    pending.add(vec![change("a", 1), change("b", 1)], &dataset);
    let keys = ["a".to_owned(), "b".to_owned()];
    let mut settled = Box::pin(pending.settled(&keys));
    let mut all_settled = Box::pin(pending.all_settled());
    assert!(futures_util::poll!(&mut settled).is_pending());
    assert!(futures_util::poll!(&mut all_settled).is_pending());
    pending.confirm(&pending.batch(100));
    assert!(futures_util::poll!(&mut settled).is_ready());
    assert!(futures_util::poll!(&mut all_settled).is_ready());
}

/// Fails when a change of a table is covered by one of a higher version: it may have been committed
/// after the step that tells of that one.
#[tokio::test]
async fn of_a_table_every_change_waits() {
    let dataset = Dataset::default();
    let pending = Pending::new(Metrics::new());
    let of_table = |version| Invalidation {
        force: true,
        is_list: true,
        is_own: false,
        ..change("c", version)
    };
    pending.add(vec![of_table(9)], &dataset);
    let sent = pending.batch(1);
    assert!(sent[0].1.is_adoptable());
    pending.add(vec![of_table(9)], &dataset);
    assert_eq!(pending.batch(1)[0].0, sent[0].0, "the same change needs to be told once");
    pending.add(vec![of_table(7)], &dataset);
    pending.confirm(&sent);
    let waiting = pending.batch(1);
    assert_eq!(waiting.len(), 1, "the change of version 7 is not told yet");
    assert_eq!(waiting[0].1.version, 0, "it stands for both");
    assert!(!waiting[0].1.is_adoptable(), "nobody has announced both");
    pending.confirm(&waiting);
    assert_eq!(pending.len(), 0);
}
