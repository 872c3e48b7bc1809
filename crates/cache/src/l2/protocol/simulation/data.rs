//! What a Redis server holds, and what each script does to it, without a server.
//!
//! The schedules run on this, and [`super::differential`] holds it to what Redis does.

use super::{KEYS, PROCESSES};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Entry {
    #[default]
    Nothing,
    /// Something that was never stored so.
    Garbage,
    Tombstone(u64),
    Value {
        version: u64,
        epoch: u64,
        filled_at: u64,
    },
}

impl Entry {
    /// The version that it says, if it says one.
    fn known(self) -> Option<u64> {
        match self {
            Self::Nothing | Self::Garbage => None,
            Self::Tombstone(version) | Self::Value { version, .. } => Some(version),
        }
    }
}

/// What a Redis server holds. An epoch, a chain and a token of zero are none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Data {
    pub(super) epoch: u64,
    pub(super) claim: usize,
    pub(super) entries: [Entry; KEYS],
    pub(super) leases: [u64; KEYS],
    /// Chain and mark of each process.
    pub(super) marks: [(u64, u64); PROCESSES],
}

/// Who takes a step: the process, its chain, and the mark before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) process: usize,
    pub(super) chain: u64,
    pub(super) before: u64,
}

/// Leave to fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) epoch: u64,
    pub(super) token: u64,
}

/// What a request for a lease is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leased {
    /// With the version of the tombstone, if there is one.
    Granted(u64),
    Filled,
    Held,
    OtherEpoch,
}

/// What became of a fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    Stored,
    Outdated,
    Fenced,
    OtherEpoch,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stepped {
    Done,
    OtherDataset,
    NotThere,
}

/// What the caller of [`Data::lease`] found in the place of the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Unusable,
    Damaged,
    /// It is to be replaced before it expires, unless it was filled at another time.
    Due(u64),
}

impl Data {
    pub(super) fn lease(&mut self, key: usize, lease: Lease, found: Found) -> Leased {
        let entry = self.entries[key];
        if !self.is_in_force(lease.epoch) {
            return Leased::OtherEpoch;
        }
        if let Entry::Value { epoch, filled_at, .. } = entry
            && epoch == lease.epoch
        {
            match found {
                Found::Nothing => return Leased::Filled,
                Found::Due(held) if held != filled_at => return Leased::Filled,
                Found::Due(_) | Found::Unusable | Found::Damaged => {}
            }
        }
        if self.leases[key] != 0 && self.leases[key] != lease.token {
            return Leased::Held;
        }
        self.leases[key] = lease.token;
        if found == Found::Damaged {
            self.entries[key] = Entry::Nothing;
            return Leased::Granted(0);
        }
        Leased::Granted(if let Entry::Tombstone(version) = entry { version } else { 0 })
    }

    /// Version and time of the fill; without them the lease is given back. `is_fenced` is what the
    /// schedules switch off.
    pub(super) fn fill(
        &mut self,
        key: usize,
        lease: Lease,
        filled: Option<(u64, u64)>,
        is_fenced: bool,
    ) -> Filled {
        if self.leases[key] != lease.token {
            return Filled::Fenced;
        }
        self.leases[key] = 0;
        let Some((version, filled_at)) = filled else { return Filled::Fenced };
        if !self.is_in_force(lease.epoch) {
            return Filled::OtherEpoch;
        }
        let counts = match self.entries[key] {
            Entry::Nothing | Entry::Garbage => None,
            Entry::Tombstone(known) => Some(known),
            Entry::Value { version, epoch, .. } => (epoch == lease.epoch).then_some(version),
        };
        if is_fenced && counts.is_some_and(|known| known > version) {
            return Filled::Outdated;
        }
        self.entries[key] = Entry::Value { version, epoch: lease.epoch, filled_at };
        Filled::Stored
    }

    /// Key, version and force of each change. `is_fenced` is what the schedules switch off.
    pub(super) fn invalidate(
        &mut self,
        mark: Mark,
        changes: &[(usize, u64, bool)],
        is_fenced: bool,
    ) -> Stepped {
        self.step(mark, |data| {
            for &(key, version, force) in changes {
                if is_fenced {
                    data.leases[key] = 0;
                }
                if data.entries[key].known().is_none_or(|known| known < version) {
                    data.entries[key] = Entry::Tombstone(version);
                } else if force {
                    data.entries[key] = Entry::Nothing;
                }
            }
            Stepped::Done
        })
    }

    /// Relies on what another process has announced up to a mark of a chain.
    pub(super) fn adopt(&mut self, mark: Mark, (chain, needed): (u64, u64)) -> Stepped {
        self.step(mark, |data| {
            let is_there =
                chain != 0 && data.marks.iter().any(|(of, mark)| *of == chain && *mark >= needed);
            if is_there { Stepped::Done } else { Stepped::NotThere }
        })
    }

    pub(super) fn claim(&mut self, mark: Mark, epoch: u64, claim: usize) -> Stepped {
        self.step(mark, |data| {
            if !data.is_in_force(epoch) {
                return Stepped::OtherDataset;
            }
            data.claim = claim;
            Stepped::Done
        })
    }

    /// Begins a chain. The epoch in force, and the claim that goes with it.
    pub(super) fn synchronize(
        &mut self,
        (process, chain): (usize, u64),
        fresh: u64,
        claim: usize,
        force: bool,
    ) -> (u64, usize) {
        if force || self.epoch == 0 {
            (self.epoch, self.claim) = (fresh, claim);
        }
        self.marks[process] = (chain, 1);
        (self.epoch, self.claim)
    }

    fn is_in_force(&self, epoch: u64) -> bool {
        epoch != 0 && self.epoch == epoch
    }

    /// A step ends by moving the mark, and only if the mark is the one before.
    fn step(&mut self, mark: Mark, act: impl FnOnce(&mut Self) -> Stepped) -> Stepped {
        let Mark { process, chain, before } = mark;
        let (current, now) = self.marks[process];
        if chain == 0 || current != chain || now < before {
            return Stepped::OtherDataset;
        }
        if now > before {
            // It was taken already, and this is the same step again.
            return Stepped::Done;
        }
        let stepped = act(self);
        if stepped == Stepped::Done {
            self.marks[process].1 = before + 1;
        }
        stepped
    }
}
