//! Two releases beside each other on one Redis, which holds what neither of them has written.

mod damage;
mod ledger;
mod release;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use forebay_redis::{RedisPool, SharedRedis};
use forebay_testkit::{redis_config, redis_prefix, redis_url};
use futures_util::future::join_all;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use self::damage::Damage;
use self::ledger::Ledger;
use self::release::{KEYS, Next, Release};
use crate::HOUR;
use crate::store::{Row, Store};

/// Writers; each has keys of his own, so that he knows what he must read.
const WRITERS: u64 = 8;
/// Changes that each of them makes.
const CHANGES: u64 = 150;
/// Readers of each release, and what each of them reads.
const READERS: u64 = 2;
const READS: u64 = 3_000;
/// Who puts damaged entries into Redis, and how many each of them.
const VANDALS: u64 = 8;
const INJECTIONS: u64 = 1_300;
/// Times in a row that one of them may find nothing sound to damage: he reads a row each time, so it
/// comes to Redis.
const VAIN_MAX: u64 = 5_000;

struct Rig {
    store: Store,
    old: Release<Row>,
    new: Release<Next>,
    redis: SharedRedis,
    ledger: Ledger,
}

impl Rig {
    async fn start() -> Self {
        let store = Store::new().await;
        let prefix = redis_prefix();
        let old = Release::start(&prefix, &store).await;
        let new = Release::start(&prefix, &store).await;
        let redis =
            RedisPool::new(&redis_config(&redis_url(), &prefix)).expect("settings").shared();
        let ledger = Ledger::default();
        for key in 0..KEYS {
            let text = format!("{key} first");
            let version = store.put(key, &text).await;
            ledger.changed(key, version, Some(text));
        }
        Self { store, old, new, redis, ledger }
    }

    /// Reads a key through one of the releases, for the ledger. Where the answer came from.
    async fn read(&self, is_new: bool, key: u64) -> &'static str {
        let began = self.ledger.read_begins();
        let (answer, outcome) =
            if is_new { self.new.read(key).await } else { self.old.read(key).await };
        self.ledger.answered(began, key, answer);
        outcome
    }

    /// Changes rows of his own, tells of some of the changes, and reads them where he told.
    async fn write(&self, writer: u64) {
        let mut rng = SmallRng::seed_from_u64(writer);
        let mut absent = HashSet::new();
        for change in 0..CHANGES {
            let key = rng.random_range(0..KEYS / WRITERS) * WRITERS + writer;
            // Only what is there can be deleted.
            let deletes = !absent.remove(&key) && rng.random_bool(0.2);
            let text = (!deletes).then(|| format!("{key} {writer}.{change}"));
            let version = match &text {
                Some(text) => self.store.put(key, text).await,
                None => {
                    absent.insert(key);
                    self.store.delete(key).await
                }
            };
            self.ledger.changed(key, version, text.clone());
            let is_new = rng.random_bool(0.5);
            // A third of the changes is made by somebody who tells nobody.
            if rng.random_bool(0.33) {
                continue;
            }
            if is_new {
                self.new.rows.invalidate(&[(key, version)]).await;
            } else {
                self.old.rows.invalidate(&[(key, version)]).await;
            }
            let own = if is_new { self.new.read(key).await } else { self.old.read(key).await }.0;
            assert_eq!(
                own.map(|(_, text)| text),
                text,
                "wrong or stale answers: his own write of {key}"
            );
        }
    }

    async fn browse(&self, reader: u64, is_new: bool) -> BTreeMap<&'static str, u64> {
        let mut rng = SmallRng::seed_from_u64(1_000 + reader);
        let mut outcomes = BTreeMap::new();
        for _ in 0..READS {
            let outcome = self.read(is_new, rng.random_range(0..KEYS)).await;
            *outcomes.entry(outcome).or_insert(0) += 1;
            tokio::task::yield_now().await;
        }
        outcomes
    }

    /// Puts damaged entries into Redis, and reads each of their keys in the release that it is for.
    async fn vandalise(&self, vandal: u64, injected: &AtomicU64) -> BTreeMap<&'static str, u64> {
        let mut rng = SmallRng::seed_from_u64(2_000 + vandal);
        let mut damage = Damage::default();
        let mut outcomes = BTreeMap::new();
        let (mut done, mut in_vain) = (0, 0);
        while done < INJECTIONS {
            let (is_new, key) = (rng.random_bool(0.5), rng.random_range(0..KEYS));
            let name = format!("cache:row:{}:{key}", if is_new { 4 } else { 3 });
            if let Some(entry) = self.redis.get(&name).await.expect("get") {
                damage.learn(&entry);
            }
            let Some(damaged) = damage.make(&mut rng) else {
                in_vain += 1;
                assert!(in_vain < VAIN_MAX, "nothing in redis is sound to this test");
                self.read(is_new, key).await;
                continue;
            };
            in_vain = 0;
            self.redis.set_px(&name, &damaged, HOUR).await.expect("set");
            injected.fetch_add(1, SeqCst);
            done += 1;
            let outcome = self.read(is_new, key).await;
            *outcomes.entry(outcome).or_insert(0) += 1;
        }
        outcomes
    }

    /// Judges every answer, and says how many there were.
    fn judge(&self, what: &str) {
        let judged = self.ledger.judge();
        crate::report(&format!(
            "{what}: {} changes, {} answers, {} wrong, {} stale",
            judged.changes, judged.answers, judged.wrong, judged.stale
        ));
        assert_eq!(judged.first, None, "wrong or stale answers");
    }
}

fn sum(tallies: Vec<BTreeMap<&'static str, u64>>) -> BTreeMap<&'static str, u64> {
    let mut total = BTreeMap::new();
    for (outcome, count) in tallies.into_iter().flatten() {
        *total.entry(outcome).or_insert(0) += count;
    }
    total
}

/// Both releases read and write the same rows. Fails if one is handed what the other has stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_releases_share_a_redis_while_rows_change() {
    let rig = Rig::start().await;
    let writers = join_all((0..WRITERS).map(|writer| rig.write(writer)));
    let readers = join_all((0..2 * READERS).map(|reader| rig.browse(reader, reader % 2 == 0)));
    let (_, outcomes) = futures_util::join!(writers, readers);
    let outcomes = sum(outcomes);
    rig.judge(&format!("two releases, {outcomes:?}"));
    assert!(outcomes.get("hit_l2").is_some_and(|hits| *hits > 100), "{outcomes:?}");
}

/// Entries that were cut, altered, mixed up, sealed for another schema or blown up take the places of
/// sound ones, while rows change. Fails if one of the checks is missing, and if what the product stores
/// is not sound to this test: then nothing would be damaged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_put_into_redis_no_answer_is_wrong() {
    let rig = Rig::start().await;
    let injected = AtomicU64::new(0);
    let writers = join_all((0..WRITERS).map(|writer| rig.write(writer)));
    let vandals = join_all((0..VANDALS).map(|vandal| rig.vandalise(vandal, &injected)));
    let readers = join_all((0..READERS).map(|reader| rig.browse(reader, reader % 2 == 0)));
    let (_, outcomes, _) = futures_util::join!(writers, vandals, readers);
    let (injected, outcomes) = (injected.load(SeqCst), sum(outcomes));
    rig.judge(&format!("{injected} damaged entries, read as {outcomes:?}"));
    assert!(injected >= 10_000, "{injected}");
    // Those that met an entry in L1 say nothing.
    let misses = ["loaded", "absent"].iter().filter_map(|it| outcomes.get(it)).sum::<u64>();
    assert!(misses > injected / 2, "{outcomes:?}");
}
