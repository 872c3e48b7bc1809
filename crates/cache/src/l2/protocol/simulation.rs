//! The protocol as a state machine, run through random schedules.
//!
//! Two processes with a tail, a keeper and a reader each, two rows, one Redis whose data set may be
//! replaced at any moment by a prefix of it, or lose keys. Every message is sent, executed and
//! answered at moments of its own, so everything can come between. Time is the number of actions.
//! Each answer is compared with the theorem: it contains what was committed `BOUND` before the read
//! began. The decisions are those of the product; each schedule can be run again by its seed.

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

mod data;
mod differential;
mod reader;

use self::data::{Data, Entry, Found, Lease, Mark, Stepped};

const KEYS: usize = 2;
const PROCESSES: usize = 2;
const BOUND: u64 = 20;
const ACTIONS: u64 = 300;

/// A mechanism that is switched off, to see that the schedules notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Off {
    Nothing,
    Mark,
    Pending,
    Era,
    Fence,
    /// A fill is turned away neither by its void lease nor by a newer version.
    FencedFill,
    NewChainAfterLoss,
    Replay,
}

#[derive(Debug, Clone, Copy)]
struct Trust {
    chain: u64,
    epoch: u64,
    mark: u64,
}

impl Trust {
    fn mark_of(self, process: usize) -> Mark {
        Mark { process, chain: self.chain, before: self.mark }
    }
}

#[derive(Debug, Clone, Copy)]
struct Step {
    trust: Trust,
    changes: [u64; KEYS],
    answer: Option<bool>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Poll {
    sent: u64,
    seen: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Look,
    Ask { trust: Trust, waits_for: u64 },
    Lease { epoch: u64, found: Found },
    Load { lease: Option<Lease> },
    Loaded { lease: Option<Lease>, sent: u64, version: u64 },
    Fill { lease: Lease, version: u64, filled_at: u64 },
}

#[derive(Debug, Clone, Copy)]
struct Read {
    key: usize,
    began: u64,
    caught_up: Option<u64>,
    generation: u64,
    /// When that entry was filled that its caller got, and that it is about to replace.
    renews: Option<u64>,
    stage: Stage,
}

/// An entry of L1.
#[derive(Debug, Clone, Copy)]
struct Held {
    version: u64,
    /// When it was certainly the newest.
    as_of: u64,
    filled_at: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Process {
    followed: Option<usize>,
    caught_up: Option<u64>,
    poll: Option<Poll>,
    pending: [u64; KEYS],
    trust: Option<Trust>,
    syncing: Option<Trust>,
    step: Option<Step>,
    l1: [Option<Held>; KEYS],
    generations: [u64; KEYS],
    read: Option<Read>,
}

struct World {
    rng: SmallRng,
    off: Off,
    /// How often an answer of Redis is lost.
    losses: f64,
    now: u64,
    names: u64,
    /// When, which key. The version is the place, counted from one.
    commits: Vec<(u64, usize)>,
    data: Data,
    history: Vec<Data>,
    processes: [Process; PROCESSES],
    served: u64,
    refreshed: u64,
    stale: u64,
}

impl World {
    fn new(seed: u64, off: Off) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(seed),
            off,
            losses: 0.0,
            now: 0,
            names: 0,
            commits: Vec::new(),
            data: Data::default(),
            history: vec![Data::default()],
            processes: [Process::default(); PROCESSES],
            served: 0,
            refreshed: 0,
            stale: 0,
        }
    }

    fn run(mut self) -> (u64, u64, u64) {
        // Each schedule is slow in another way.
        let (follows, keeps) =
            (self.rng.random_range(15..45), [2, 6, 25][self.rng.random_range(0..3)]);
        // And in some one process does most, or all, or hardly hears an answer: what it forgets to
        // tell Redis, the other would have told a moment later.
        let first = [0.5, 0.5, 0.9, 1.0][self.rng.random_range(0..4)];
        self.losses = [0.1, 0.1, 0.5][self.rng.random_range(0..3)];
        for now in 1..=ACTIONS {
            self.now = now;
            let process = usize::from(!self.rng.random_bool(first));
            let key = self.rng.random_range(0..KEYS);
            match self.rng.random_range(0..100) {
                0..4 => self.commit(process, key),
                4..6 => self.fail_over(),
                6 => self.write(|data| data.leases[key] = 0),
                7..9 => self.write(|data| data.entries[key] = Entry::Nothing),
                9 => self.processes[process].poll = None,
                rest if rest < 10 + follows => self.follow(process),
                rest if rest < 10 + follows + keeps => self.keep(process),
                _ => self.read(process, key),
            }
        }
        (self.served, self.refreshed, self.stale)
    }

    fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    fn newest(&self, key: usize, until: usize) -> u64 {
        let found = self.commits[..until].iter().rposition(|(_, changed)| *changed == key);
        found.map_or(0, |at| u64::try_from(at).unwrap_or(0) + 1)
    }

    fn write<T>(&mut self, change: impl FnOnce(&mut Data) -> T) -> T {
        let changed = change(&mut self.data);
        self.history.push(self.data);
        changed
    }

    /// Another server goes on from a prefix of what this one executed, perhaps from nothing.
    fn fail_over(&mut self) {
        let back = self.rng.random_range(1..24).min(self.history.len());
        self.history.truncate(self.history.len() - back);
        self.data = self.history.last().copied().unwrap_or_default();
        self.history.push(self.data);
    }

    fn commit(&mut self, process: usize, key: usize) {
        self.commits.push((self.now, key));
        let version = u64::try_from(self.commits.len()).unwrap_or(0);
        // Half of the changes are made by plain SQL, which tells nobody.
        if self.rng.random_bool(0.5) {
            self.apply(process, key, version);
        }
    }

    fn apply(&mut self, process: usize, key: usize, version: u64) {
        let process = &mut self.processes[process];
        process.pending[key] = process.pending[key].max(version);
        process.generations[key] += 1;
        if process.l1[key].is_some_and(|held| held.version < version) {
            process.l1[key] = None;
        }
    }

    fn follow(&mut self, at: usize) {
        let Some(mut poll) = self.processes[at].poll else {
            self.processes[at].poll = Some(Poll { sent: self.now, seen: None });
            return;
        };
        let Some(seen) = poll.seen else {
            poll.seen = Some(self.commits.len());
            self.processes[at].poll = Some(poll);
            return;
        };
        if self.processes[at].followed.is_none() && self.off != Off::Era {
            // What was read before anybody followed the changes belongs to no era.
            self.processes[at].l1 = [None; KEYS];
            self.processes[at].generations.iter_mut().for_each(|generation| *generation += 1);
        }
        if let Some(followed) = self.processes[at].followed {
            for change in followed..seen {
                let key = self.commits[change].1;
                self.apply(at, key, u64::try_from(change).unwrap_or(0) + 1);
            }
        }
        let process = &mut self.processes[at];
        process.followed = Some(seen);
        process.caught_up = Some(poll.sent);
        process.poll = None;
    }

    fn keep(&mut self, at: usize) {
        let process = self.processes[at];
        match (process.trust.or(process.syncing), process.step) {
            (None, _) => self.synchronize(at),
            (Some(trust), Some(step)) => self.answer(at, trust, step),
            (Some(trust), None) if process.pending != [0; KEYS] => {
                let changes = process.pending;
                self.processes[at].step = Some(Step { trust, changes, answer: None });
            }
            (Some(trust), None) => self.claim(at, trust),
        }
    }

    fn synchronize(&mut self, at: usize) {
        let Some(followed) = self.processes[at].followed else { return };
        let (chain, fresh) = (self.name(), self.name());
        let (epoch, claim) =
            self.write(|data| data.synchronize((at, chain), fresh, followed, false));
        let trust = Trust { chain, epoch, mark: 1 };
        if self.off != Off::Replay {
            for change in claim..self.commits.len() {
                let (key, version) =
                    (self.commits[change].1, u64::try_from(change).unwrap_or(0) + 1);
                let waits = &mut self.processes[at].pending[key];
                *waits = (*waits).max(version);
            }
        }
        self.processes[at].syncing = Some(trust);
        self.processes[at].step = None;
    }

    /// A step is executed, then answered; either may never happen.
    fn answer(&mut self, at: usize, trust: Trust, step: Step) {
        let Some(done) = step.answer else {
            let changes = step.changes.into_iter().enumerate().filter(|(_, version)| *version != 0);
            let changes: Vec<_> = changes.map(|(key, version)| (key, version, false)).collect();
            let (mark, voids) = (step.trust.mark_of(at), self.off != Off::FencedFill);
            let stepped = self.write(|data| data.invalidate(mark, &changes, voids));
            let is_ours = stepped == Stepped::Done;
            self.processes[at].step = Some(Step { answer: Some(is_ours), ..step });
            return;
        };
        let is_lost = self.rng.random_bool(self.losses);
        let process = &mut self.processes[at];
        process.step = None;
        if is_lost && self.off == Off::NewChainAfterLoss {
            // Taken as answered: the number is used for what was never told.
            process.trust = process.trust.map(|trust| Trust { mark: trust.mark + 1, ..trust });
            process.pending = [0; KEYS];
            return;
        }
        if is_lost || !done {
            (process.trust, process.syncing) = (None, None);
            return;
        }
        let moved = Trust { mark: trust.mark + 1, ..trust };
        for (waits, told) in process.pending.iter_mut().zip(step.changes) {
            if *waits == told {
                *waits = 0;
            }
        }
        if process.trust.is_some() {
            process.trust = Some(moved);
        } else {
            process.syncing = Some(moved);
        }
    }

    fn claim(&mut self, at: usize, trust: Trust) {
        let process = &mut self.processes[at];
        if process.syncing.take().is_some() {
            process.trust = Some(trust);
            return;
        }
        let followed = process.followed.unwrap_or(0);
        let (mark, epoch) = (trust.mark_of(at), trust.epoch);
        if self.write(|data| data.claim(mark, epoch, followed)) == Stepped::Done {
            self.processes[at].trust = Some(Trust { mark: trust.mark + 1, ..trust });
        } else {
            self.processes[at].trust = None;
        }
    }
}

/// What came of many schedules.
#[derive(Debug, Default)]
struct Seen {
    schedules: u64,
    served: u64,
    refreshed: u64,
    stale: u64,
    /// The schedules that gave an answer which was too old, and the first of them.
    wrong: u64,
    first: Option<u64>,
}

/// Runs so many schedules, or until so many of them have given a wrong answer.
fn run(schedules: u64, off: Off, wrong_max: u64) -> Seen {
    let mut seen = Seen::default();
    for seed in 0..schedules {
        if seen.wrong == wrong_max {
            break;
        }
        let (served, refreshed, stale) = World::new(seed, off).run();
        seen.schedules += 1;
        seen.served += served;
        seen.refreshed += refreshed;
        seen.stale += stale;
        if stale > 0 {
            seen.wrong += 1;
            seen.first = seen.first.or(Some(seed));
        }
    }
    seen
}

/// Fails with any of the mechanisms off: the second test runs it so.
#[test]
#[expect(clippy::print_stdout, reason = "the figures of a test are for its reader")]
fn no_schedule_gives_an_answer_older_than_the_bound() {
    const SCHEDULES: u64 = 100_000;
    let Seen { served, refreshed, stale, first, .. } = run(SCHEDULES, Off::Nothing, u64::MAX);
    println!(
        "{SCHEDULES} schedules of {ACTIONS} actions: {served} answers, {stale} too old, \
         {refreshed} early refreshes"
    );
    assert_eq!((stale, first), (0, None), "run the seed again");
    assert!(served > SCHEDULES && refreshed > SCHEDULES, "{served}, {refreshed}");
}

/// Fails if the schedules would not notice that a mechanism is missing, or only by luck.
#[test]
#[expect(clippy::print_stdout, reason = "the figures of a test are for its reader")]
fn the_schedules_notice_every_mechanism_that_is_off() {
    const SCHEDULES_MAX: u64 = 200_000;
    const NOTICED_MIN: u64 = 20;
    for off in [
        Off::Mark,
        Off::Pending,
        Off::Era,
        Off::Fence,
        Off::FencedFill,
        Off::NewChainAfterLoss,
        Off::Replay,
    ] {
        let Seen { schedules, served, stale, wrong, first, .. } =
            run(SCHEDULES_MAX, off, NOTICED_MIN);
        println!(
            "without {off:?}: {stale} of {served} answers too old, in {wrong} of {schedules} \
             schedules, first with seed {first:?}"
        );
        assert!(wrong == NOTICED_MIN, "without {off:?} only {wrong} schedules noticed");
    }
}
