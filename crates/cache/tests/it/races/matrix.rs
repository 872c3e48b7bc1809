//! R1 and R1b: a read is stopped at each of its steps, and a change is made meanwhile.

use std::collections::BTreeMap;

use forebay_redis::{RedisPool, SharedRedis};
use forebay_testkit::{redis_config, redis_prefix, redis_url};
use tokio::time::Instant;

use super::gate::Side;
use super::pause::Pause;
use super::process::{Process, text_of};
use super::resp::Words;
use crate::store::Store;
use crate::{BOUNDED, eventually};

/// What a read waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// L2 says what it holds.
    Ask,
    /// L2 says whether the process may fill.
    Lease,
    /// The store says what is true.
    Load,
    /// L2 takes it.
    Fill,
}

/// Who makes the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// The process that reads.
    Same,
    Another,
    /// Nobody who would tell of it.
    Sql,
}

/// How far the change has got when the read goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// It is committed, and its writer has told nobody.
    Committed,
    /// Redis knows. The process that reads does not, unless it made the change.
    Told,
    /// The process that reads knows as well.
    Known,
}

/// What the change does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Update,
    Create,
    Delete,
    /// An update of a row that L2 holds.
    UpdateOfCached,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    step: Step,
    side: Side,
    who: Who,
    when: When,
    change: Change,
}

fn cases(who: Who) -> Vec<Case> {
    let mut cases = Vec::new();
    for step in [Step::Ask, Step::Lease, Step::Load, Step::Fill] {
        for side in [Side::Before, Side::After] {
            for when in [When::Committed, When::Told, When::Known] {
                for change in
                    [Change::Update, Change::Create, Change::Delete, Change::UpdateOfCached]
                {
                    // What L2 holds is neither leased nor loaded nor filled.
                    if change != Change::UpdateOfCached || step == Step::Ask {
                        cases.push(Case { step, side, who, when, change });
                    }
                }
            }
        }
    }
    cases
}

/// The processes. Two read, one of which is stopped; the others have never read a key before the
/// change, so what they say comes from L2, or from the store.
struct Rig {
    store: Store,
    reader: Process,
    other: Process,
    colds: [Process; 2],
    redis: SharedRedis,
    next_key: u64,
}

impl Rig {
    async fn start() -> Self {
        let store = Store::new().await;
        let prefix = redis_prefix();
        let start = async || Process::start(&prefix, &store).await;
        let (reader, other, colds) = (start().await, start().await, [start().await, start().await]);
        let redis =
            RedisPool::new(&redis_config(&redis_url(), &prefix)).expect("settings").shared();
        Self { store, reader, other, colds, redis, next_key: 0 }
    }

    fn all(&self) -> [&Process; 4] {
        let [first, second] = &self.colds;
        [&self.reader, &self.other, first, second]
    }

    /// What L2 holds of a key: kind and version.
    async fn held(&self, key: u64) -> Option<(u8, i64)> {
        let stored = self.redis.get(&entry_key(key)).await.expect("get")?;
        let version = str::from_utf8(stored.get(1..17)?).ok()?;
        Some((*stored.first()?, i64::from_str_radix(version, 16).ok()?))
    }

    /// Commits the change; the version of the row, and what it is now.
    async fn commit(&self, key: u64, change: Change) -> (i64, Option<String>) {
        if change == Change::Delete {
            return (self.store.delete(key).await, None);
        }
        (self.store.put(key, "new").await, Some("new".to_owned()))
    }

    fn stop(&self, case: Case, key: u64) -> Pause {
        let Case { step, side, .. } = case;
        if step == Step::Load {
            return self.reader.loads.stop(side, key);
        }
        self.reader.gate.stop(side, move |words| step_of(words, key) == Some(step))
    }

    /// Runs one case. Where each answer after the change came from; the names of those who gave an
    /// old one.
    async fn run(&mut self, case: Case) -> (Vec<&'static str>, Vec<&'static str>) {
        let key = self.next_key;
        self.next_key += 1;
        let before = self.prepare(key, case.change).await;
        let stopped = self.stop(case, key);
        let fills = self.reader.fills();
        self.reader.deafen();
        let rows = self.reader.rows.clone();
        let read = tokio::spawn(async move { rows.get(&key, BOUNDED).await });
        stopped.reached(&format!("{case:?}")).await;

        let (version, after) = self.commit(key, case.change).await;
        let mut stale = Vec::new();
        if case.when == When::Committed {
            stopped.go_on();
            self.tell(case.who, key, version, &after, &mut stale).await;
        } else {
            self.tell(case.who, key, version, &after, &mut stale).await;
            eventually("redis knows of the change", async || {
                self.held(key).await.is_some_and(|(_, held)| held >= version)
            })
            .await;
            if case.when == When::Known {
                self.reader.hear();
                self.reader.knows(Instant::now()).await;
            }
            stopped.go_on();
        }
        let (answer, outcome) = text_of(&read.await.expect("task").expect("answered"));
        assert!(answer == before || answer == after, "{case:?}: {answer:?}");
        self.reader.hear();
        if matches!(outcome, "loaded" | "absent") {
            self.reader.filled_more_than(fills).await;
        }

        let committed = Instant::now();
        for process in self.all() {
            process.knows(committed).await;
            process.told().await;
        }
        if self.held(key).await.is_some_and(|(kind, held)| kind != b'T' && held < version) {
            stale.push("redis");
        }
        let mut outcomes = Vec::new();
        let [first, second] = &self.colds;
        // The cold ones ask L2; then all have it in L1.
        for _ in 0..2 {
            for (name, process) in [
                ("first cold", first),
                ("second cold", second),
                ("reader", &self.reader),
                ("other", &self.other),
            ] {
                let (text, outcome) = process.read(key).await;
                outcomes.push(outcome);
                if text != after {
                    stale.push(name);
                }
            }
        }
        (outcomes, stale)
    }

    /// What is true and held before the read; the text of the row.
    async fn prepare(&self, key: u64, change: Change) -> Option<String> {
        if change == Change::Create {
            return None;
        }
        let version = self.store.put(key, "old").await;
        let written = Instant::now();
        // Nobody is to be told of this during the case.
        for process in self.all() {
            process.knows(written).await;
            process.told().await;
        }
        if change == Change::UpdateOfCached {
            self.other.read(key).await;
            eventually("it is in redis", async || self.held(key).await == Some((b'V', version)))
                .await;
        }
        Some("old".to_owned())
    }

    /// The writer tells of his change, if he does. His own process must know it at once.
    async fn tell(
        &self,
        who: Who,
        key: u64,
        version: i64,
        after: &Option<String>,
        stale: &mut Vec<&'static str>,
    ) {
        let writer = match who {
            Who::Same => &self.reader,
            Who::Another => &self.other,
            Who::Sql => return,
        };
        writer.invalidate(key, version).await;
        // With the reader's own connection held up, his next read could not end.
        if who == Who::Another && writer.read(key).await.0 != *after {
            stale.push("writer");
        }
    }
}

fn entry_key(key: u64) -> String {
    format!("cache:row:3:{key}")
}

/// Which step of a read of this key a command is.
fn step_of(words: &Words, key: u64) -> Option<Step> {
    let entry = entry_key(key).into_bytes();
    let lease = [entry.as_slice(), b":lease"].concat();
    let has = |end: &[u8]| words.iter().any(|word| word.ends_with(end));
    if words.first().is_some_and(|name| name == b"MGET") && has(&entry) {
        return Some(Step::Ask);
    }
    // A step that tells of changes has the log among its keys.
    if !has(&lease) || has(b"cache-log") {
        return None;
    }
    let is_value = |word: &Vec<u8>| matches!(word.first(), Some(b'V' | b'N')) && word.len() >= 77;
    Some(if words.iter().any(is_value) { Step::Fill } else { Step::Lease })
}

async fn run_all(who: Who) {
    let mut rig = Rig::start().await;
    let cases = cases(who);
    let (mut stale, mut from) = (Vec::new(), BTreeMap::new());
    for case in &cases {
        let (outcomes, wrong) = rig.run(*case).await;
        for outcome in outcomes {
            *from.entry(outcome).or_insert(0) += 1;
        }
        if !wrong.is_empty() {
            stale.push((*case, wrong));
        }
    }
    crate::report(&format!(
        "a change by {who:?} in each gap of a read: {} cases, {} stale; read after it: {from:?}",
        cases.len(),
        stale.len()
    ));
    assert!(stale.is_empty(), "stale after the change: {stale:#?}");
    // Both levels were asked for what they hold.
    for outcome in ["hit_l1", "hit_l2", "negative_l1", "negative_l2"] {
        assert!(from.get(outcome).is_some_and(|count| *count >= cases.len() / 8), "{from:?}");
    }
}

/// Fails without the fence of L1, or if a fill compares neither lease nor version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_same_process_in_any_gap_of_a_read_is_not_undone() {
    run_all(Who::Same).await;
}

/// Fails without the fence of L1, or if a fill compares neither lease nor version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_another_process_in_any_gap_of_a_read_is_not_undone() {
    run_all(Who::Another).await;
}

/// Fails without the fence of L1, or if a fill compares neither lease nor version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_by_sql_in_any_gap_of_a_read_is_not_undone() {
    run_all(Who::Sql).await;
}
