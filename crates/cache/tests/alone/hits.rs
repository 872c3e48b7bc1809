//! What a hit costs beyond its time.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use forebay_cache::Outcome;
use futures_util::FutureExt;

use crate::{BOUNDED, ENCODED, Rig, report};

const HITS: u64 = 1000;

/// Fails if a hit in L1 allocates, waits, or encodes its value.
#[tokio::test]
async fn a_hit_in_l1_allocates_nothing_and_encodes_nothing() {
    let rig = Rig::start(Duration::from_secs(5)).await;
    rig.numbers.get(&7, BOUNDED).await.expect("fills l1");
    // The first reads of a thread set up what it keeps for later.
    let hit = || {
        let read = rig.numbers.get(&7, BOUNDED).now_or_never();
        let found = read.expect("a hit waits for nothing").expect("a hit fails never");
        assert_eq!(found.outcome, Outcome::HitL1);
        found.value.expect("exists").encoded.len()
    };
    for _ in 0..HITS {
        hit();
    }
    let encoded = ENCODED.load(SeqCst);
    let mut rounds = [0; 5];
    for round in &mut rounds {
        let AllocationInfo { count_total, .. } = measure(|| {
            for _ in 0..HITS {
                hit();
            }
        });
        *round = count_total;
    }
    let encoded = ENCODED.load(SeqCst) - encoded;
    report(&format!("{HITS} hits in L1: {rounds:?} allocations, {encoded} encodings"));
    // moka keeps house now and then, in whoever's read comes by, also after other tests: what a hit
    // allocates itself, it allocates in every round.
    rounds.sort_unstable();
    assert!(rounds[2] <= HITS / 50, "a hit allocates: {rounds:?}");
    assert_eq!(encoded, 0);
}
