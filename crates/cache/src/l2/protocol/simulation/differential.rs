//! The scripts on a real Redis against the model that the schedules run on: the same requests get the
//! same answers and leave the same keys.
//!
//! Nobody is too slow here: who gets a turn beside the holder of a lease depends on the clock.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use forebay_redis::{RedisPool, SharedRedis};
use forebay_testkit::{redis_config, redis_prefix, redis_url};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use self::settings::config;
use super::data::{Data, Entry, Filled, Found, Lease, Leased, Mark, Stepped};
use super::{KEYS, PROCESSES};
use crate::changes::announced::Chain;
use crate::changes::pending::{Invalidation, Pending};
use crate::l1::local::EntityId;
use crate::l2::dataset::Trust;
use crate::l2::remote::{self, Claim, Fill, Remote, Space, Step, There, Told};
use crate::l2::wire::{self, Epoch, Header};
use crate::metrics::Metrics;

mod settings;

const SEEDS: u64 = 4;
const STEPS: u64 = 3_000;
const HOUR: Duration = Duration::from_secs(3600);
const SPACE: Space = Space { id: EntityId(0), entity: "row", schema: 1, is_list: false };

/// A lease as Redis has it: whose it is, and that nobody else has had a turn.
fn lease_text(token: u64) -> String {
    [token_text(token).as_str(), "0"].concat()
}

fn token_text(token: u64) -> String {
    format!("{token:016x}")
}

/// The model and the server, side by side.
struct Pair {
    rng: SmallRng,
    data: Data,
    remote: Remote,
    redis: SharedRedis,
    /// What the names in the model are called in Redis.
    epochs: HashMap<u64, Epoch>,
    chains: HashMap<u64, Chain>,
    names: u64,
    /// What was last put where the model has garbage.
    garbage: [Bytes; KEYS],
}

impl Pair {
    fn new(seed: u64) -> Self {
        let pool = RedisPool::new(&redis_config(&redis_url(), &redis_prefix())).expect("settings");
        let metrics = Metrics::new();
        let pending = Pending::new(Arc::clone(&metrics));
        let remote = Remote::new(&pool, &config(), &Arc::default(), &pending, &metrics);
        Self {
            rng: SmallRng::seed_from_u64(seed),
            data: Data::default(),
            remote,
            redis: pool.shared(),
            epochs: HashMap::from([(0, Epoch::fresh())]),
            chains: HashMap::from([(0, Chain::fresh())]),
            names: 0,
            garbage: [const { Bytes::new() }; KEYS],
        }
    }

    fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    fn entry_key(key: usize) -> String {
        SPACE.entry_key(&key.to_string())
    }

    /// A mark of the process, most often the one that Redis has.
    fn mark(&mut self) -> Mark {
        let process = self.rng.random_range(0..PROCESSES);
        let (chain, mark) = self.data.marks[process];
        let off = [0, 0, 0, 0, 1, 2][self.rng.random_range(0..6)];
        let before = if self.rng.random_bool(0.5) { mark + off } else { mark.saturating_sub(off) };
        Mark { process, chain, before }
    }

    /// Some time of the wall clock.
    fn filled_at(&mut self) -> u64 {
        self.rng.random_range(1..3) << 40
    }

    /// The epoch in force, most often.
    fn epoch(&mut self) -> u64 {
        if self.rng.random_bool(0.9) { self.data.epoch } else { 0 }
    }

    fn trust(&self, mark: Mark, epoch: u64) -> Trust {
        Trust {
            chain: self.chains[&mark.chain].clone(),
            epochs: HashMap::from([(SPACE.id, self.epochs[&epoch])]),
            mark: AtomicU64::new(mark.before),
        }
    }

    /// What is stored for a version: some are of rows that do not exist.
    fn stored(&self, version: u64, epoch: u64, filled_at_ms: u64) -> Vec<u8> {
        let header = Header { epoch: self.epochs[&epoch], schema: 1, filled_at_ms };
        let body = (!version.is_multiple_of(3)).then(|| version.to_string());
        wire::encode(body.as_deref().map(str::as_bytes), signed(version), &header)
    }

    /// One request, or something that befalls the server. What it was, and both answers.
    async fn act(&mut self) -> (String, String, String) {
        let key = self.rng.random_range(0..KEYS);
        let version = self.rng.random_range(1..12);
        match self.rng.random_range(0..100) {
            0..25 => self.lease(key).await,
            25..45 => self.fill(key, version).await,
            45..70 => self.invalidate(version).await,
            70..77 => self.adopt().await,
            77..84 => self.claim().await,
            84..88 => self.synchronize().await,
            _ => self.befall(key, version).await,
        }
    }

    async fn lease(&mut self, key: usize) -> (String, String, String) {
        let (epoch, token) = (self.epoch(), self.rng.random_range(1..4));
        let held = self.filled_at();
        let (found, there) = [
            (Found::Nothing, There::Nothing),
            (Found::Unusable, There::Unusable),
            (Found::Damaged, There::Damaged),
            (Found::Due(held), There::Due(held)),
        ][self.rng.random_range(0..4)];
        let what = format!("lease {key} {epoch} {token} {found:?}");
        let expected = match self.data.lease(key, Lease { epoch, token }, found) {
            Leased::Granted(version) => format!("granted {version} {}", lease_text(token)),
            Leased::Filled => "filled".to_owned(),
            Leased::Held => "held".to_owned(),
            Leased::OtherEpoch => "none".to_owned(),
        };
        let (entries, epoch) = ([(Self::entry_key(key), there)], self.epochs[&epoch]);
        let wanted = (epoch, token_text(token));
        let leased = self.remote.lease(SPACE, (wanted.0, &wanted.1), HOUR, &entries).await;
        let answered = match leased.as_deref() {
            Some([remote::Lease::Granted { version, lease }]) => {
                format!("granted {version} {lease}")
            }
            Some([remote::Lease::Filled]) => "filled".to_owned(),
            Some([remote::Lease::Held { .. }]) => "held".to_owned(),
            None => "none".to_owned(),
            Some(other) => format!("{other:?}"),
        };
        (what, expected, answered)
    }

    async fn fill(&mut self, key: usize, version: u64) -> (String, String, String) {
        let (epoch, token) = (self.epoch(), self.rng.random_range(1..4));
        // Whoever has the lease, more often than by chance.
        let held = self.data.leases[key];
        let token = if held != 0 && self.rng.random_bool(0.6) { held } else { token };
        let filled_at = self.filled_at();
        let filled = self.rng.random_bool(0.9).then_some((version, filled_at));
        let what = format!("fill {key} {epoch} {token} {filled:?}");
        let expected = match self.data.fill(key, Lease { epoch, token }, filled, true) {
            Filled::Stored => remote::Filled::Stored,
            Filled::Outdated => remote::Filled::Outdated,
            Filled::Fenced => remote::Filled::Fenced,
            Filled::OtherEpoch => remote::Filled::Dropped,
        };
        let fill = Fill {
            entry_key: Self::entry_key(key),
            lease: lease_text(token),
            version: signed(filled.map_or(0, |(version, _)| version)),
            value: filled.map_or_else(Vec::new, |(version, at)| self.stored(version, epoch, at)),
            ttl: HOUR,
        };
        let epoch = self.epochs[&epoch];
        let filled = self.remote.fill(SPACE, epoch, &[fill]).await;
        (what, format!("{:?}", [expected]), format!("{filled:?}"))
    }

    async fn invalidate(&mut self, version: u64) -> (String, String, String) {
        let (mark, force) = (self.mark(), self.rng.random_bool(0.2));
        let first = self.rng.random_range(0..KEYS);
        let changes: Vec<_> = (first..KEYS).map(|key| (key, version, force)).collect();
        let what = format!("invalidate {mark:?} {changes:?}");
        let expected = step(self.data.invalidate(mark, &changes, true));
        let waiting: Vec<_> = changes
            .iter()
            .map(|(key, version, force)| {
                let invalidation = Invalidation {
                    entry_key: Self::entry_key(*key),
                    entity: SPACE.entity,
                    schema: SPACE.schema,
                    key_text: key.to_string(),
                    version: signed(*version),
                    force: *force,
                    is_list: false,
                    is_own: true,
                };
                (0, invalidation)
            })
            .collect();
        let messages = vec![Bytes::from_static(b"changed"); waiting.len()];
        let told = [Told { changes: &waiting, messages }];
        let steps = self.remote.invalidate(&self.trust(mark, 0), &told).await;
        (what, format!("{:?}", [expected]), format!("{steps:?}"))
    }

    async fn adopt(&mut self) -> (String, String, String) {
        let mark = self.mark();
        let (chain, theirs) = self.data.marks[self.rng.random_range(0..PROCESSES)];
        let needed = theirs + self.rng.random_range(0..2);
        let what = format!("adopt {mark:?} {chain} {needed}");
        let expected = step(self.data.adopt(mark, (chain, needed)));
        let others = [(self.chains[&chain].clone(), needed)];
        let adopted = self.remote.adopt(&self.trust(mark, 0), &others).await;
        (what, format!("{expected:?}"), format!("{adopted:?}"))
    }

    async fn claim(&mut self) -> (String, String, String) {
        let (mark, epoch) = (self.mark(), self.epoch());
        let claim = self.rng.random_range(1..1_000);
        let what = format!("claim {mark:?} {epoch} {claim}");
        let expected = step(self.data.claim(mark, epoch, claim));
        let claim = Claim { text: claim.to_string() };
        let claimed = self.remote.claim(&self.trust(mark, epoch), &[SPACE], &claim).await;
        (what, format!("{expected:?}"), format!("{claimed:?}"))
    }

    async fn synchronize(&mut self) -> (String, String, String) {
        let (process, force) = (self.rng.random_range(0..PROCESSES), self.rng.random_bool(0.3));
        let (chain, fresh, claim) = (self.name(), self.name(), self.rng.random_range(1..1_000));
        let what = format!("synchronize {process} as {chain} {fresh} {claim} {force}");
        self.chains.insert(chain, Chain::fresh());
        let (epoch, expected) = self.data.synchronize((process, chain), fresh, claim, force);
        let claim = Claim { text: claim.to_string() };
        let spaces = [(SPACE, force, Bytes::from_static(b"everything"))];
        let chain = self.chains[&chain].clone();
        let found = self.remote.synchronize(&chain, &claim, &spaces).await.expect("an answer");
        let told = |is_new: bool, epoch: Epoch, claim: Option<String>| {
            let kind = if is_new { "renewed" } else { "kept" };
            format!("{kind} {} {claim:?}", epoch.to_text())
        };
        let is_new = self.epochs.values().all(|known| *known != found[0].epoch);
        let answered = told(is_new, found[0].epoch, found[0].claim.clone());
        // Redis chose the name of a new epoch.
        self.epochs.entry(epoch).or_insert(found[0].epoch);
        let expected = told(epoch == fresh, self.epochs[&epoch], Some(expected.to_string()));
        (what, expected, answered)
    }

    /// A lease expires, an entry is evicted or damaged or from another time, the epoch is lost.
    async fn befall(&mut self, key: usize, version: u64) -> (String, String, String) {
        let name = Self::entry_key(key);
        let lost = |name: String| async move { name };
        let what = self.rng.random_range(0..6);
        let gone = match what {
            0 | 1 => {
                self.data.leases[key] = 0;
                Some(lost([name.as_str(), ":lease"].concat()).await)
            }
            2 => {
                self.data.entries[key] = Entry::Nothing;
                Some(name.clone())
            }
            3 if self.rng.random_bool(0.2) => {
                self.data.epoch = 0;
                Some(SPACE.epoch_key())
            }
            _ => None,
        };
        if let Some(gone) = gone {
            self.redis.del(&[gone]).await.expect("del");
        } else if what == 4 {
            // A value of an epoch that was in force before.
            let filled_at = self.filled_at();
            self.data.entries[key] = Entry::Value { version, epoch: 0, filled_at };
            let stored = self.stored(version, 0, filled_at);
            self.redis.set_px(&name, stored, HOUR).await.expect("set");
        } else {
            let kinds: [&[u8]; 4] = [b"", b"T", b"X0000000000000005 and more than that", b"V 5"];
            let garbage = Bytes::from_static(kinds[self.rng.random_range(0..4)]);
            self.data.entries[key] = Entry::Garbage;
            self.garbage[key] = garbage.clone();
            self.redis.set_px(&name, garbage, HOUR).await.expect("set");
        }
        (format!("loss {what} {key}"), String::new(), String::new())
    }

    /// What the model says that Redis holds.
    fn expected(&self) -> Vec<Option<Bytes>> {
        let text = |text: String| Some(Bytes::from(text));
        let data = &self.data;
        let is_begun = data.epoch != 0;
        let mut held =
            vec![is_begun.then(|| Bytes::copy_from_slice(self.epochs[&data.epoch].as_bytes()))];
        held.push(if data.claim == 0 { None } else { text(data.claim.to_string()) });
        for (key, entry) in data.entries.iter().enumerate() {
            held.push(match *entry {
                Entry::Nothing => None,
                Entry::Garbage => Some(self.garbage[key].clone()),
                Entry::Tombstone(version) => text(wire::tombstone(signed(version))),
                Entry::Value { version, epoch, filled_at } => {
                    Some(self.stored(version, epoch, filled_at).into())
                }
            });
        }
        held.extend(
            data.leases.iter().map(|lease| (*lease != 0).then(|| Bytes::from(lease_text(*lease)))),
        );
        held.extend(
            data.marks.iter().map(|(_, mark)| (*mark != 0).then(|| Bytes::from(mark.to_string()))),
        );
        held
    }

    /// What it holds.
    async fn held(&self) -> Vec<Option<Bytes>> {
        let mut names = vec![SPACE.epoch_key(), SPACE.claim_key()];
        names.extend((0..KEYS).map(Self::entry_key));
        names.extend((0..KEYS).map(|key| [Self::entry_key(key).as_str(), ":lease"].concat()));
        names.extend(self.data.marks.iter().map(|(chain, _)| self.chains[chain].mark_key()));
        self.redis.mget(&names).await.expect("mget")
    }
}

fn signed(version: u64) -> i64 {
    i64::try_from(version).expect("small")
}

fn step(stepped: Stepped) -> Step {
    match stepped {
        Stepped::Done => Step::Done,
        Stepped::OtherDataset => Step::OtherDataset,
        Stepped::NotThere => Step::NotThere,
    }
}

/// Every answer that a script has. Without one of them the run says nothing about what leads to it.
const ANSWERS: [&str; 17] = [
    "lease granted",
    "lease filled",
    "lease held",
    "lease none",
    "fill [Stored]",
    "fill [Outdated]",
    "fill [Fenced]",
    "fill [Dropped]",
    "invalidate [Done]",
    "invalidate [OtherDataset]",
    "adopt Done",
    "adopt OtherDataset",
    "adopt NotThere",
    "claim Done",
    "claim OtherDataset",
    "synchronize renewed",
    "synchronize kept",
];
/// How often each of them is given at least.
const GIVEN_MIN: u64 = 20;

/// Fails if a script and the model of it differ in anything that the protocol rests on, or if the
/// requests never lead to one of the answers.
#[tokio::test]
#[expect(clippy::print_stdout, reason = "the figures of a test are for its reader")]
async fn scripts_and_model_agree() {
    let mut answers: HashMap<String, u64> = HashMap::new();
    for seed in 0..SEEDS {
        let mut pair = Pair::new(seed);
        for number in 0..STEPS {
            let before = pair.data;
            let (what, expected, answered) = pair.act().await;
            let at = format!("step {number} of seed {seed}, {what}, after {before:?}");
            assert_eq!(answered, expected, "the answer to {at}");
            assert_eq!(pair.held().await, pair.expected(), "what is held after {at}");
            let kind = what.split(' ').next().unwrap_or_default();
            *answers
                .entry(format!("{kind} {}", answered.split(' ').next().unwrap_or_default()))
                .or_default() += 1;
        }
    }
    let given = ANSWERS.map(|answer| (answer, answers.remove(answer).unwrap_or(0)));
    println!("{} steps on Redis and on the model agree: {given:?}", SEEDS * STEPS);
    for (answer, times) in given {
        assert!(times >= GIVEN_MIN, "{answer} was answered {times} times");
    }
    answers.remove("loss ");
    assert!(answers.is_empty(), "answers that nobody has heard of: {answers:?}");
}
