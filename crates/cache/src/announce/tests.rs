//! What waits for Redis is complete or given up as a whole.

use super::*;

fn change(key: &str, version: i64) -> Invalidation {
    Invalidation { key: key.to_owned(), version, message: Bytes::new(), force: false }
}

fn versions(pending: &Pending) -> Vec<(String, i64)> {
    let mut waiting: Vec<_> =
        pending.batch().into_iter().map(|(_, change)| (change.key, change.version)).collect();
    waiting.sort();
    waiting
}

#[tokio::test]
async fn the_newest_change_of_a_key_waits() {
    let link = Link::new();
    let pending = Pending::new();
    pending.add(vec![change("a", 2), change("b", 1), change("a", 1)], &link);
    assert_eq!(versions(&pending), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
    let sent = pending.batch();
    pending.add(vec![change("a", 3)], &link);
    pending.confirm(&sent);
    assert_eq!(versions(&pending), [("a".to_owned(), 3)], "confirmed was the older one");
    assert!(pending.contains("a") && !pending.contains("b"));
    assert_eq!(link.epoch_required(), None);
}

/// Fails if changes that do not fit are dropped without a new epoch.
#[tokio::test]
async fn too_many_changes_are_given_up_for_a_new_epoch() {
    let link = Link::new();
    let pending = Pending::with_max(2);
    pending.add(vec![change("a", 1), change("b", 1)], &link);
    pending.add(vec![change("a", 2)], &link);
    assert_eq!(link.epoch_required(), None, "a key that waits needs no more room");
    pending.add(vec![change("c", 1)], &link);
    assert!(link.epoch_required().is_some());
    assert_eq!(pending.len(), 0);
}

#[tokio::test]
async fn settled_waits_for_the_confirmation() {
    let link = Link::new();
    let pending = Pending::new();
    pending.add(vec![change("a", 1), change("b", 1)], &link);
    let keys = ["a".to_owned(), "b".to_owned()];
    let mut settled = Box::pin(pending.settled(&keys));
    let mut all_settled = Box::pin(pending.all_settled());
    assert!(futures_util::poll!(&mut settled).is_pending());
    assert!(futures_util::poll!(&mut all_settled).is_pending());
    pending.confirm(&pending.batch());
    assert!(futures_util::poll!(&mut settled).is_ready());
    assert!(futures_util::poll!(&mut all_settled).is_ready());
}

#[test]
fn announcements_survive_the_wire() {
    for (entity, version, key_text) in
        [("token", 42, "a b c"), ("token_by_mint", i64::MAX, ""), ("pool", 0, "ключ \n")]
    {
        let announcement = Announcement { origin: "me", entity, version, key_text };
        let message = announcement.encode();
        assert_eq!(Announcement::decode(&message), Some(announcement));
    }
    assert_eq!(Announcement::everything("me").everything_named(), Some(None));
    let of_entity = Announcement::everything_of("me", "token");
    assert_eq!(of_entity.everything_named(), Some(Some("token")));
    assert_eq!(Announcement::decode(&of_entity.encode()), Some(of_entity.clone()));
    for other in
        [b"".as_slice(), b"2 me token 1 key", b"1 me token x key", b"1 me token 1", b"\xff"]
    {
        assert_eq!(Announcement::decode(other), None);
    }
}
