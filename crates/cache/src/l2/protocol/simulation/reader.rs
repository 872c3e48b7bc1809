//! The reads of the simulation, and what their answers are compared with.

use rand::RngExt as _;

use super::data::{Entry, Found, Lease, Leased};
use super::{BOUND, Held, Off, Read, Stage, Trust, World};
use crate::l2::protocol::{is_known, is_usable};

impl World {
    fn serve(&mut self, read: &Read, version: u64) {
        if read.renews.is_some() {
            // Its caller has been answered.
            self.refreshed += 1;
            return;
        }
        self.served += 1;
        let due = self
            .commits
            .iter()
            .rposition(|(committed, key)| *key == read.key && committed + BOUND < read.began);
        let due = due.map_or(0, |at| u64::try_from(at).unwrap_or(0) + 1);
        self.stale += u64::from(version < due);
    }

    fn fill_l1(&mut self, at: usize, read: &Read, filled: Held) {
        let fenced = self.off != Off::Fence;
        let process = &mut self.processes[at];
        let is_void = fenced && process.generations[read.key] != read.generation;
        if !is_void && process.l1[read.key].is_none_or(|held| held.version <= filled.version) {
            process.l1[read.key] = Some(filled);
        }
    }

    pub(super) fn read(&mut self, at: usize, key: usize) {
        let process = self.processes[at];
        let Some(mut read) = process.read else {
            let (began, caught_up) = (self.now, process.caught_up);
            let generation = process.generations[key];
            self.processes[at].read =
                Some(Read { key, began, caught_up, generation, renews: None, stage: Stage::Look });
            return;
        };
        let key = read.key;
        let next = match read.stage {
            Stage::Look => self.look(at, &mut read),
            Stage::Ask { trust, waits_for } => self.ask(at, &read, trust, waits_for),
            Stage::Lease { epoch, found } => {
                // Whoever has it may be too slow: then it is this one's turn, with the same token.
                let held = self.data.leases[key];
                let takes_turn = held != 0 && self.rng.random_bool(0.3);
                let token = if takes_turn { held } else { self.name() };
                let lease = Lease { epoch, token };
                match self.write(|data| data.lease(key, lease, found)) {
                    Leased::Granted(_) => Some(Stage::Load { lease: Some(lease) }),
                    Leased::Held | Leased::OtherEpoch => Some(Stage::Load { lease: None }),
                    Leased::Filled => None,
                }
            }
            Stage::Load { lease } => {
                let version = self.newest(key, self.commits.len());
                Some(Stage::Loaded { lease, sent: self.now, version })
            }
            Stage::Loaded { lease, sent, version } => {
                self.serve(&read, version);
                // As of when it was asked for, which was not after this.
                let filled_at = self.now;
                self.fill_l1(at, &read, Held { version, as_of: sent, filled_at });
                lease.map(|lease| Stage::Fill { lease, version, filled_at })
            }
            Stage::Fill { lease, version, filled_at } => {
                let is_fenced = self.off != Off::FencedFill;
                self.write(|data| data.fill(key, lease, Some((version, filled_at)), is_fenced));
                None
            }
        };
        self.processes[at].read = next.map(|stage| Read { stage, ..read });
    }

    fn ask(&mut self, at: usize, read: &Read, trust: Trust, waits_for: u64) -> Option<Stage> {
        let waits_for = (waits_for != 0 && self.off != Off::Pending).then_some(waits_for);
        let waits_for = waits_for.and_then(|it| i64::try_from(it).ok());
        let (chain, mark) = self.data.marks[at];
        let found = (chain == trust.chain).then_some(mark);
        let needed = if self.off == Off::Mark { 0 } else { trust.mark };
        let found = if self.off == Off::Mark { Some(0) } else { found };
        if !is_known((trust.epoch, needed), Some(self.data.epoch), found) {
            self.processes[at].trust = None;
            return Some(Stage::Load { lease: None });
        }
        let lease = |found| Some(Stage::Lease { epoch: trust.epoch, found });
        // What cannot be used does not count.
        let Entry::Value { version, epoch, filled_at } = self.data.entries[read.key] else {
            return lease(Found::Unusable);
        };
        let usable = i64::try_from(version)
            .is_ok_and(|version| is_usable((trust.epoch, waits_for), epoch, version));
        if !usable {
            return lease(Found::Unusable);
        }
        if read.renews == Some(filled_at) {
            return lease(Found::Due(filled_at));
        }
        self.serve(read, version);
        let as_of = read.caught_up.unwrap_or(0);
        self.fill_l1(at, read, Held { version, as_of, filled_at });
        None
    }

    fn look(&mut self, at: usize, read: &mut Read) -> Option<Stage> {
        let process = self.processes[at];
        let key = read.key;
        // The view that was taken when the read began, before anything is looked at.
        let is_within =
            read.caught_up.is_some_and(|caught_up| read.began.saturating_sub(caught_up) <= BOUND);
        if let Some(held) = process.l1[key]
            && (is_within || read.began.saturating_sub(held.as_of) <= BOUND)
        {
            self.serve(read, held.version);
            if self.rng.random_bool(0.7) {
                return None;
            }
            // It is about to expire.
            read.renews = Some(held.filled_at);
        }
        read.generation = process.generations[key];
        match process.trust.filter(|_| is_within) {
            Some(trust) => Some(Stage::Ask { trust, waits_for: process.pending[key] }),
            None => Some(Stage::Load { lease: None }),
        }
    }
}
