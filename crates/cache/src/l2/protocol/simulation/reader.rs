//! The reads of the simulation, and what their answers are compared with.

use rand::RngExt as _;

use super::data::{Entry, Found, Lease, Leased};
use super::{BOUND, Off, Read, Stage, World};
use crate::l2::protocol::{is_known, is_usable};

impl World {
    fn serve(&mut self, read: &Read, version: u64) {
        self.served += 1;
        let due = self
            .commits
            .iter()
            .rposition(|(committed, key)| *key == read.key && committed + BOUND < read.began);
        let due = due.map_or(0, |at| u64::try_from(at).unwrap_or(0) + 1);
        self.stale += u64::from(version < due);
    }

    fn fill_l1(&mut self, at: usize, read: &Read, version: u64, as_of: u64) {
        let fenced = self.off != Off::Fence;
        let process = &mut self.processes[at];
        let is_void = fenced && process.generations[read.key] != read.generation;
        if !is_void && process.l1[read.key].is_none_or(|(held, _)| held <= version) {
            process.l1[read.key] = Some((version, as_of));
        }
    }

    pub(super) fn read(&mut self, at: usize, key: usize) {
        let process = self.processes[at];
        let Some(mut read) = process.read else {
            let (began, caught_up) = (self.now, process.caught_up);
            let generation = process.generations[key];
            self.processes[at].read =
                Some(Read { key, began, caught_up, generation, stage: Stage::Look });
            return;
        };
        let key = read.key;
        let next = match read.stage {
            Stage::Look => self.look(at, &mut read),
            Stage::Ask { trust, waits_for } => {
                let waits_for = (waits_for != 0 && self.off != Off::Pending).then_some(waits_for);
                let waits_for = waits_for.and_then(|it| i64::try_from(it).ok());
                let (chain, mark) = self.data.marks[at];
                let found = (chain == trust.chain).then_some(mark);
                let needed = if self.off == Off::Mark { 0 } else { trust.mark };
                let found = if self.off == Off::Mark { Some(0) } else { found };
                if !is_known((trust.epoch, needed), Some(self.data.epoch), found) {
                    self.processes[at].trust = None;
                    Some(Stage::Load { lease: None })
                } else {
                    match self.data.entries[key] {
                        Entry::Value { version, epoch }
                            if is_usable(
                                (trust.epoch, waits_for),
                                epoch,
                                i64::try_from(version).unwrap_or(0),
                            ) =>
                        {
                            self.serve(&read, version);
                            self.fill_l1(at, &read, version, read.caught_up.unwrap_or(0));
                            None
                        }
                        _ => Some(Stage::Lease { epoch: trust.epoch }),
                    }
                }
            }
            Stage::Lease { epoch } => {
                // Whoever has it may be too slow: then it is this one's turn, with the same token.
                let held = self.data.leases[key];
                let takes_turn = held != 0 && self.rng.random_bool(0.3);
                let token = if takes_turn { held } else { self.name() };
                let lease = Lease { epoch, token };
                // What was there could not be used, so it does not count.
                let leased = self.write(|data| data.lease(key, lease, Found::Unusable));
                let is_granted = matches!(leased, Leased::Granted(_));
                Some(Stage::Load { lease: is_granted.then_some(lease) })
            }
            Stage::Load { lease } => {
                let version = self.newest(key, self.commits.len());
                Some(Stage::Loaded { lease, sent: self.now, version })
            }
            Stage::Loaded { lease, sent, version } => {
                self.serve(&read, version);
                // As of when it was asked for, which was not after this.
                self.fill_l1(at, &read, version, sent);
                lease.map(|lease| Stage::Fill { lease, version })
            }
            Stage::Fill { lease, version } => {
                let is_fenced = self.off != Off::FencedFill;
                self.write(|data| data.fill(key, lease, Some(version), is_fenced));
                None
            }
        };
        self.processes[at].read = next.map(|stage| Read { stage, ..read });
    }

    fn look(&mut self, at: usize, read: &mut Read) -> Option<Stage> {
        let process = self.processes[at];
        let key = read.key;
        // The view that was taken when the read began, before anything is looked at.
        let is_within =
            read.caught_up.is_some_and(|caught_up| read.began.saturating_sub(caught_up) <= BOUND);
        if let Some((version, as_of)) = process.l1[key]
            && (is_within || read.began.saturating_sub(as_of) <= BOUND)
        {
            self.serve(read, version);
            return None;
        }
        read.generation = process.generations[key];
        match process.trust.filter(|_| is_within) {
            Some(trust) => Some(Stage::Ask { trust, waits_for: process.pending[key] }),
            None => Some(Stage::Load { lease: None }),
        }
    }
}
