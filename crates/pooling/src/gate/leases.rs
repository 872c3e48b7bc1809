//! Who holds a permit, since when, and which line of code asked for it.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use opentelemetry::trace::{TraceId, get_active_span};
use tokio::time::Instant;

use crate::Priority;

/// One held permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The line of code that asked for the permit.
    pub location: &'static Location<'static>,
    /// How long it has been held.
    pub held: Duration,
    /// The class of the caller.
    pub priority: Priority,
    /// The trace in which it was asked for.
    pub trace: Option<TraceId>,
    /// What the holder does with it, if it said so: the summary of a statement.
    pub note: Option<&'static str>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { location, held, priority, trace: _, note } = self;
        write!(f, "{}:{} for {} ms", location.file(), location.line(), held.as_millis())?;
        if *priority != Priority::default() {
            write!(f, ", {priority}")?;
        }
        note.map_or(Ok(()), |note| write!(f, " ({note})"))
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    location: &'static Location<'static>,
    pub(super) priority: Priority,
    trace: Option<TraceId>,
    note: Option<&'static str>,
}

impl Caller {
    /// The task that runs now, at `location`.
    pub(super) fn current(
        location: &'static Location<'static>,
        note: Option<&'static str>,
    ) -> Self {
        let trace = get_active_span(|span| span.span_context().trace_id());
        Self {
            location,
            priority: Priority::current(),
            trace: (trace != TraceId::INVALID).then_some(trace),
            note,
        }
    }
}

/// A held permit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lease {
    pub(super) caller: Caller,
    pub(super) since: Instant,
    /// From when on it counts for the estimate of how long a permit is held; `None` if it does not.
    pub(super) used_since: Option<Instant>,
    is_reported: bool,
}

impl Lease {
    fn holder(&self, now: Instant) -> Holder {
        Holder {
            location: self.caller.location,
            held: now.saturating_duration_since(self.since),
            priority: self.caller.priority,
            trace: self.caller.trace,
            note: self.caller.note,
        }
    }
}

/// Records of all held permits: a vector with a free list, so a record costs no allocation.
#[derive(Debug, Default)]
pub(super) struct Leases {
    records: Vec<Option<Lease>>,
    free: Vec<usize>,
}

impl Leases {
    /// Records a lease and names the place to clear with [`Leases::leave`].
    pub(super) fn enter(&mut self, caller: Caller, since: Instant) -> usize {
        let record = Some(Lease { caller, since, used_since: Some(since), is_reported: false });
        if let Some(index) = self.free.pop() {
            self.records[index] = record;
            index
        } else {
            self.records.push(record);
            self.records.len() - 1
        }
    }

    /// Clears the record of a lease that ended.
    pub(super) fn leave(&mut self, index: usize) -> Option<Lease> {
        let lease = self.records[index].take();
        if lease.is_some() {
            self.free.push(index);
        }
        lease
    }

    pub(super) fn restart_hold(&mut self, index: usize, now: Instant) {
        if let Some(lease) = &mut self.records[index] {
            lease.used_since = Some(now);
        }
    }

    pub(super) fn disregard_hold(&mut self, index: usize) {
        if let Some(lease) = &mut self.records[index] {
            lease.used_since = None;
        }
    }

    pub(super) fn note(&mut self, index: usize, note: Option<&'static str>) {
        if let Some(lease) = &mut self.records[index] {
            lease.caller.note = note;
        }
    }

    /// The longest holders first.
    pub(super) fn oldest(&self, count: usize, now: Instant) -> Vec<Holder> {
        let mut leases: Vec<_> = self.records.iter().flatten().collect();
        leases.sort_by_key(|lease| lease.since);
        leases.into_iter().take(count).map(|lease| lease.holder(now)).collect()
    }

    /// Those held for longer than `leak_after` that were not reported before.
    pub(super) fn take_leaked(&mut self, leak_after: Duration, now: Instant) -> Vec<Holder> {
        let is_leaked = |lease: &&mut Lease| {
            !lease.is_reported && now.saturating_duration_since(lease.since) > leak_after
        };
        let leaked = self.records.iter_mut().flatten().filter(is_leaked);
        leaked
            .map(|lease| {
                lease.is_reported = true;
                lease.holder(now)
            })
            .collect()
    }
}
