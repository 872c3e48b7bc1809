//! How many connections may be in use: what was set, or what the server grants.

use std::time::Duration;

use forebay_pooling::Sizer;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::lifecycle::shelf::PgGate;

/// The size of a connection pool while it runs.
pub(crate) struct Sizing {
    gate: PgGate,
    regrow_every: Duration,
    /// What bb8 was built with. It cannot hold more.
    hard_max: u32,
    state: Mutex<State>,
}

struct State {
    sizer: Sizer,
    connections_max: u32,
}

impl Sizing {
    /// All that bb8 can hold.
    pub(crate) fn new(gate: PgGate, hard_max: u32, regrow_every: Duration) -> Self {
        let state = State { sizer: sizer(hard_max, regrow_every), connections_max: hard_max };
        Self { gate, regrow_every, hard_max, state: Mutex::new(state) }
    }

    /// Connections that may be in use if the server grants them.
    pub(crate) fn connections_max(&self) -> u32 {
        self.state.lock().connections_max
    }

    /// Sets the limit; returns what it is now.
    pub(crate) fn resize(&self, connections_max: u32) -> u32 {
        let connections_max = connections_max.clamp(1, self.hard_max);
        let mut state = self.state.lock();
        *state = State { sizer: sizer(connections_max, self.regrow_every), connections_max };
        self.apply(state.sizer.permits());
        connections_max
    }

    /// The server has no slot for one connection more, while it has granted `open` of them.
    pub(crate) fn refused(&self, open: usize) {
        let permits = {
            let mut state = self.state.lock();
            let permits = state.sizer.refused(open, Instant::now());
            self.apply(permits);
            permits
        };
        tracing::debug!(open, permits, "postgres has no free slot: fewer connections from now on");
    }

    /// To be called at an interval below that of growing.
    pub(crate) fn tick(&self) {
        let gate = self.gate.stats();
        let hold = Some(gate.hold_estimate).filter(|hold| !hold.is_zero());
        let mut state = self.state.lock();
        let permits = state.sizer.tick(Instant::now(), gate.waiting, hold);
        self.apply(permits);
    }

    /// With the lock held, so that the gate has what was decided last.
    fn apply(&self, permits: usize) {
        if self.gate.permits() != permits {
            self.gate.resize(permits);
        }
    }
}

fn sizer(connections_max: u32, regrow_every: Duration) -> Sizer {
    Sizer::new(usize::try_from(connections_max).unwrap_or(usize::MAX), regrow_every)
}
