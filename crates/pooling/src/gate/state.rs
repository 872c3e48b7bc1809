//! Everything a gate knows, under one lock: who is in, who waits, who may come in.

use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::forecast::Forecast;
use super::leases::{Caller, Leases};
use super::queue::{Queue, Turn};
use super::{GateConfig, GateError, GateStats, Holder};
use crate::Priority;

/// What follows a permit that came back, to be done once the lock is free.
#[derive(Debug)]
pub(super) struct Next<C> {
    /// Whom to wake.
    pub(super) waker: Option<Waker>,
    /// What was to be passed on, if nobody waits for it.
    pub(super) left: Option<C>,
}

/// See the module. Its methods neither wake nor drop a waker, and drop nothing that is passed on:
/// they return it, to be used once the lock is free.
#[derive(Debug)]
pub(super) struct State<C> {
    config: GateConfig,
    permits: usize,
    held: usize,
    held_by_admin: usize,
    is_closed: bool,
    /// Those who wait until every permit is back.
    asking_for_idle: usize,
    queue: Queue<C>,
    leases: Leases,
    forecast: Forecast,
    /// When the deadline of a waiter passes for which nobody was woken yet.
    alarm: Option<Instant>,
    timeouts: u64,
    shed: u64,
    shed_predicted: u64,
    cancelled: u64,
    leaked: u64,
}

impl<C> State<C> {
    pub(super) fn new(config: GateConfig) -> Self {
        Self {
            config,
            permits: config.permits,
            held: 0,
            held_by_admin: 0,
            is_closed: false,
            asking_for_idle: 0,
            queue: Queue::new(),
            leases: Leases::default(),
            forecast: Forecast::default(),
            alarm: None,
            timeouts: 0,
            shed: 0,
            shed_predicted: 0,
            cancelled: 0,
            leaked: 0,
        }
    }

    /// A lease at once; `None` if there is no permit or somebody of this priority waits for it.
    pub(super) fn enter(
        &mut self,
        caller: Caller,
        now: Instant,
    ) -> Result<Option<usize>, GateError> {
        if self.is_closed {
            return Err(GateError::Closed);
        }
        let is_free = self.may_enter(caller.priority) && self.queue.waiting(caller.priority) == 0;
        Ok(is_free.then(|| self.admit(caller, now)))
    }

    /// A place in the queue for a caller that may wait until `deadline`, or why it gets none; and
    /// whether that is before all deadlines that are looked after.
    pub(super) fn join(
        &mut self,
        caller: Caller,
        deadline: Instant,
        now: Instant,
    ) -> Result<(usize, bool), GateError> {
        let waiting = self.queue.waiting_all();
        if !self.has_room(caller.priority) {
            self.shed += 1;
            return Err(GateError::Shed { waiting, predicted: None });
        }
        if waiting == 0 {
            self.forecast.fade(now);
        }
        // What Admin looks at must stay visible in an overload, so it may always wait.
        if caller.priority != Priority::Admin {
            let ahead = self.queue.ahead_of(caller.priority);
            let predicted = self.forecast.wait(ahead, self.permits - self.reserved());
            let patience = deadline.saturating_duration_since(now);
            if predicted.is_some_and(|wait| wait > patience) {
                self.shed_predicted += 1;
                return Err(GateError::Shed { waiting, predicted });
            }
        }
        let is_earliest = self.alarm.is_none_or(|alarm| deadline < alarm);
        if is_earliest {
            self.alarm = Some(deadline);
        }
        Ok((self.queue.join(caller, now, deadline), is_earliest))
    }

    pub(super) fn turn(&mut self, entry: usize) -> &mut Turn<C> {
        self.queue.turn(entry)
    }

    /// A waiter saw that its turn has come and takes its entry along.
    pub(super) fn leave_queue(&mut self, entry: usize) -> Turn<C> {
        self.queue.leave(entry)
    }

    /// A waiter ran out of time. It still takes what it was given at the last moment.
    pub(super) fn expire(&mut self, entry: usize) -> Turn<C> {
        let turn = self.queue.leave(entry);
        if let Turn::Waiting(_) = turn {
            self.timeouts += 1;
        }
        turn
    }

    /// A waiter went away. What it was given is for the next one.
    pub(super) fn cancel(&mut self, entry: usize) -> Turn<C> {
        self.cancelled += 1;
        self.queue.leave(entry)
    }

    /// Whether anybody waits.
    pub(super) fn has_waiters(&self) -> bool {
        self.queue.waiting_all() > 0
    }

    /// A permit comes back and goes to the next waiter, if there is one, with what is `passed` on.
    pub(super) fn give_back(&mut self, lease: usize, passed: Option<C>, now: Instant) -> Next<C> {
        if let Some(since) = self.clear(lease) {
            self.forecast.observe(now.saturating_duration_since(since), now);
        }
        self.hand_on(passed, now)
    }

    /// Gives a free permit, if there is one, to the waiter whose turn it is. One that has not
    /// been polled yet has no waker and looks for itself.
    pub(super) fn hand_on(&mut self, passed: Option<C>, now: Instant) -> Next<C> {
        let Some(entry) = self.next_to_enter() else {
            return Next { waker: None, left: passed };
        };
        let lease = self.admit(self.queue.caller(entry), now);
        let turn = Turn::Given(lease, passed);
        match std::mem::replace(self.queue.turn(entry), turn) {
            Turn::Waiting(waker) => Next { waker, left: None },
            Turn::Given(..) | Turn::Expired | Turn::Closed => Next { waker: None, left: None },
        }
    }

    fn next_to_enter(&mut self) -> Option<usize> {
        let (other, admin) = (self.may_enter(Priority::default()), self.may_enter(Priority::Admin));
        if !admin {
            return None;
        }
        self.queue.next(|priority| match priority {
            Priority::Interactive | Priority::Batch => other,
            Priority::Admin => admin,
        })
    }

    pub(super) fn resize(&mut self, permits: usize) {
        self.permits = permits;
    }

    pub(super) fn permits(&self) -> usize {
        self.permits
    }

    pub(super) fn close(&mut self) -> Vec<Waker> {
        self.is_closed = true;
        self.queue.close()
    }

    /// Ends the waits whose time is over. Returns whom to wake, and when to come back; with nobody
    /// left that is told by the next one who joins.
    pub(super) fn expire_waits(&mut self, now: Instant) -> (Vec<Waker>, Option<Instant>) {
        let (count, wakers, nearest) = self.queue.expire(now);
        self.timeouts += count;
        self.alarm = nearest;
        (wakers, nearest)
    }

    /// Whom to wake so that everyone who waits looks again.
    pub(super) fn rouse(&mut self) -> Vec<Waker> {
        self.queue.rouse()
    }

    pub(super) fn ask_for_idle(&mut self) {
        self.asking_for_idle += 1;
    }

    pub(super) fn no_longer_ask_for_idle(&mut self) {
        self.asking_for_idle -= 1;
    }

    /// Whether every permit is back and somebody waits for that.
    pub(super) fn is_idle_asked_for(&self) -> bool {
        self.held == 0 && self.asking_for_idle > 0
    }

    pub(super) fn held(&self) -> usize {
        self.held
    }

    pub(super) fn restart_hold(&mut self, lease: usize, now: Instant) {
        self.leases.restart_hold(lease, now);
    }

    pub(super) fn disregard_hold(&mut self, lease: usize) {
        self.leases.disregard_hold(lease);
    }

    pub(super) fn note(&mut self, lease: usize, note: Option<&'static str>) {
        self.leases.note(lease, note);
    }

    pub(super) fn oldest_holders(&self, count: usize) -> Vec<Holder> {
        self.leases.oldest(count, Instant::now())
    }

    /// Counts and returns the leaks nobody was told of yet.
    pub(super) fn take_leaked(&mut self) -> Vec<Holder> {
        let leaked = self.leases.take_leaked(self.config.leak_after, Instant::now());
        self.leaked = self.leaked.saturating_add(u64::try_from(leaked.len()).unwrap_or(u64::MAX));
        leaked
    }

    pub(super) fn stats(&self) -> GateStats {
        let oldest = self.queue.oldest();
        GateStats {
            held: self.held,
            permits: self.permits,
            reserved: self.reserved(),
            waiting: self.queue.waiting_all(),
            waiting_by_priority: Priority::ALL.map(|priority| self.queue.waiting(priority)),
            waiting_max: self.config.waiting_max,
            oldest_wait: oldest.map_or(Duration::ZERO, |since| since.elapsed()),
            hold_estimate: self.forecast.hold().unwrap_or_default(),
            timeouts: self.timeouts,
            shed: self.shed,
            shed_predicted: self.shed_predicted,
            cancelled: self.cancelled,
            leaked: self.leaked,
        }
    }

    /// Places for waiters that were ever needed at once.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.queue.places()
    }

    fn reserved(&self) -> usize {
        self.config.reserved_of(self.permits)
    }

    fn may_enter(&self, priority: Priority) -> bool {
        let is_free = self.held < self.permits;
        match priority {
            Priority::Interactive | Priority::Batch => {
                is_free && self.held - self.held_by_admin < self.permits - self.reserved()
            }
            Priority::Admin => is_free,
        }
    }

    fn has_room(&self, priority: Priority) -> bool {
        let admin = self.queue.waiting(Priority::Admin);
        let has_room = self.queue.waiting_all() - admin < self.config.waiting_max;
        match priority {
            Priority::Interactive => has_room,
            Priority::Batch => {
                let batch = self.queue.waiting(Priority::Batch);
                has_room && batch < self.config.batch_waiting_max()
            }
            Priority::Admin => admin < GateConfig::ADMIN_WAITING_MAX,
        }
    }

    fn admit(&mut self, caller: Caller, now: Instant) -> usize {
        self.held += 1;
        self.held_by_admin += usize::from(caller.priority == Priority::Admin);
        self.leases.enter(caller, now)
    }

    fn clear(&mut self, lease: usize) -> Option<Instant> {
        let lease = self.leases.leave(lease)?;
        self.held -= 1;
        self.held_by_admin -= usize::from(lease.caller.priority == Priority::Admin);
        lease.used_since
    }
}
