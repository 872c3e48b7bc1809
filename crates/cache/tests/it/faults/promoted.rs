//! A replica of Redis is promoted that lacks the newest commands of the server whose address it takes.

use std::ops::Range;
use std::time::Duration;

use forebay_cache::{CacheStats, L2State, Outcome};
use forebay_testkit::PrivateRedis;

use super::switch::Switch;
use super::witness::Witness;
use super::{BOUND, ask, config};
use crate::store::Store;
use crate::{Replica, entity_config, eventually, report};

/// How often a server takes over from the other.
const ROUNDS: u64 = 3;
/// Keys that are changed while the replica is cut off, in each round others.
const CHANGED: u64 = 100;
/// Keys that never change.
const UNTOUCHED: Range<u64> = 10_000..10_050;

/// Lets a server follow another one, and waits until it has everything.
async fn follow(follower: &PrivateRedis, main: &PrivateRedis) {
    ask(follower, &format!("REPLICAOF 127.0.0.1 {}", main.port())).await;
    eventually("the replica follows", async || {
        let is_up = ask(follower, "INFO replication").await.contains("master_link_status:up");
        is_up && ask(follower, "DBSIZE").await == ask(main, "DBSIZE").await
    })
    .await;
}

fn hits_l2(stats: &CacheStats) -> u64 {
    let outcomes = stats.entities.iter().flat_map(|entity| &entity.outcomes);
    outcomes.filter(|(outcome, _)| *outcome == Outcome::HitL2).map(|(_, count)| count).sum()
}

/// Fails without the mark (the promoted server still has the old values of what it was not told, in
/// the epoch that is in force), or if a failover costs what is in L1 or all that is in L2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_replica_without_the_newest_commands_is_found_out_and_told_them() {
    let (mut main, mut other) = (PrivateRedis::start(), PrivateRedis::start());
    let switch = Switch::to(main.port()).await;
    let (store, witness) = (Store::new().await, Witness::default());
    let new = || Replica::with(&switch.url(), "", &store, &config(), &entity_config());
    for key in (0..ROUNDS * CHANGED).chain(UNTOUCHED) {
        witness.put(&store, key, "first").await;
    }
    let [a, b] = [new().l2_in_use(&store).await, new().l2_in_use(&store).await];
    for round in 0..ROUNDS {
        let changed = round * CHANGED..(round + 1) * CHANGED;
        for key in changed.clone().chain(UNTOUCHED) {
            let version = a.rows.get(&key, crate::BOUNDED).await.expect("read").value;
            a.l2_version(key, version.expect("exists").value.version).await;
            witness.read(&b.rows, key).await;
        }
        follow(&other, &main).await;
        // Cut off: it goes on following somebody who is not there.
        ask(&other, "REPLICAOF 127.0.0.1 1").await;
        let mut changes = Vec::new();
        for key in changed.clone() {
            changes.push((key, witness.put(&store, key, &format!("round {round}")).await));
        }
        a.rows.invalidate(&changes).await;
        for (key, version) in &changes {
            a.l2_version(*key, *version).await;
        }
        // Until what the replica holds is older than anybody may be told.
        tokio::time::sleep(BOUND + Duration::from_millis(100)).await;
        let before = b.cache.stats();
        ask(&other, "REPLICAOF NO ONE").await;
        let old = ask(&other, &format!("GET cache:row:3:{}", round * CHANGED)).await;
        assert!(old.contains("first"), "the tail is lost: {old}");
        switch.lead_to(other.port());
        main.kill();
        for key in UNTOUCHED {
            assert_eq!(b.outcome(key).await, "hit_l1", "a failover costs nothing that is in L1");
        }
        for key in changed {
            witness.read(&b.rows, key).await;
            witness.read(&a.rows, key).await;
        }
        std::mem::swap(&mut main, &mut other);
        other.restart();
        for replica in [&a, &b] {
            let trusted = async || replica.cache.stats().l2_state == L2State::Trusted;
            eventually("redis is used again", trusted).await;
        }
        let after = b.cache.stats();
        assert_eq!(after.l2_forgotten, before.l2_forgotten, "no new epoch was needed");
        let late = new().l2_in_use(&store).await;
        for key in UNTOUCHED {
            assert_eq!(late.outcome(key).await, "hit_l2", "L2 is warm in the promoted server");
        }
        report(&format!(
            "round {round}: {} hits in L2 so far, {}",
            hits_l2(&after),
            witness.summary()
        ));
    }
}
