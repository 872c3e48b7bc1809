//! Looks after the connections that nobody uses: one task per connection pool.
//!
//! bb8 has a reaper, which closes what it was told to keep and many at a time.
//! It is off. The visitor takes an idle connection only with a permit of its
//! own and one at a time, so it is never in the way of a caller.

use std::panic::Location;
use std::sync::{Arc, Weak};
use std::time::Duration;

use forebay_config::PostgresConfig;
use forebay_pooling::{CloseReason, Priority};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::lifecycle::shelf::{PgPermit, Taken};
use crate::pool::Shared;

/// Time between two looks at what is to be opened and who holds a connection for too long. Shorter
/// where a setting is so short that it would be missed.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Time between two visits to the idle connections, with the same exception. HikariCP looks every
/// 30 s; a lifetime ends more exactly here, and a look costs microseconds.
const VISIT_INTERVAL: Duration = Duration::from_secs(5);
/// Neither is ever shorter.
const INTERVAL_MIN: Duration = Duration::from_millis(20);

/// The task, which ends with this value.
#[derive(Debug)]
pub(crate) struct Visitor(AbortHandle);

impl Visitor {
    /// Starts visiting, for as long as `shared` is there.
    pub(crate) fn start(
        shared: &Arc<Shared>,
        config: &PostgresConfig,
        connections_max: u32,
    ) -> Self {
        let visits = Visits {
            idle_timeout: config.idle_timeout,
            connections_min: config.connections_min.min(connections_max),
            interval: VISIT_INTERVAL.min(config.idle_timeout / 2).max(INTERVAL_MIN),
        };
        let interval = WATCH_INTERVAL
            .min(visits.interval)
            .min(config.leak_after / 4)
            .min(config.regrow_interval / 2)
            .max(INTERVAL_MIN);
        let task = shared.runtime().spawn(run(Arc::downgrade(shared), visits, interval));
        Self(task.abort_handle())
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug, Clone, Copy)]
struct Visits {
    idle_timeout: Duration,
    connections_min: u32,
    interval: Duration,
}

async fn run(weak: Weak<Shared>, visits: Visits, interval: Duration) {
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_visit = Instant::now() + visits.interval;
    loop {
        let Some(shared) = weak.upgrade().filter(|shared| !shared.manager().is_draining()) else {
            return;
        };
        let mut failures = shared.manager().outage().listen();
        let retry_at = shared.manager().outage().retry_at();
        drop(shared);
        let retry = async {
            match retry_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let is_outage = tokio::select! {
            _ = tick.tick() => false,
            _ = failures.next() => continue,
            () = retry => true,
        };
        let Some(shared) = weak.upgrade() else {
            return;
        };
        if is_outage {
            probe(&shared).await;
            continue;
        }
        shared.gate().report_leaks(shared.name());
        shared.manager().sizing().tick();
        visits.fill(&shared).await;
        if next_visit <= Instant::now() {
            visits.close(&shared);
            check(&shared).await;
            next_visit = Instant::now() + visits.interval;
        }
    }
}

/// Asks a failing server again. Callers are turned away meanwhile, so nobody else would.
async fn probe(shared: &Shared) {
    // Whoever waits is told by the outage itself.
    if let Ok(connection) = shared.manager().open_one().await {
        // Connections that died with the server may still fill its place.
        shared.shelf().look_through(shared.bb8(), |_| ());
        // Closed again if callers had as many opened meanwhile.
        drop(shared.bb8().add(connection));
    }
}

impl Visits {
    /// Closes what is dead, what was idle for too long, and at most one that is too old: a caller
    /// who needs it waits for a new one, and only one caller at a time should have to.
    fn close(&self, shared: &Shared) {
        let open = shared.bb8().state().connections;
        let mut surplus = open.saturating_sub(self.connections_min);
        // What may not be used is the server's to give to others.
        let permits = u32::try_from(shared.gate().permits()).unwrap_or(u32::MAX);
        let mut unusable = open.saturating_sub(permits);
        let mut retired = false;
        shared.shelf().look_through(shared.bb8(), |idle| {
            for connection in idle {
                if connection.is_dead() {
                    surplus = surplus.saturating_sub(1);
                    unusable = unusable.saturating_sub(1);
                } else if unusable > 0 {
                    unusable -= 1;
                    surplus = surplus.saturating_sub(1);
                    connection.poison(CloseReason::Shrunk);
                } else if surplus > 0 && connection.used_at().elapsed() >= self.idle_timeout {
                    surplus -= 1;
                    connection.poison(CloseReason::Idle);
                } else if connection.is_expired() && !retired {
                    retired = true;
                    connection.poison(CloseReason::Lifetime);
                }
            }
        });
    }

    /// Opens connections one after the other until there are enough.
    async fn fill(&self, shared: &Shared) {
        while shared.bb8().state().connections < self.connections_min {
            let Some(_permit) = permit(shared).await else {
                return;
            };
            // Whoever waits for a connection has been told why; the next tick tries again.
            let Ok(connection) = shared.manager().open_one().await else {
                return;
            };
            // Closed again if callers had as many opened meanwhile.
            if shared.bb8().add(connection).is_err() {
                return;
            }
        }
    }
}

/// Checks the connections that were silent for long, one after the other.
async fn check(shared: &Shared) {
    while let Some(permit) = permit(shared).await {
        let silent = |idle: &mut Vec<Taken>| {
            let found = idle.iter().position(|connection| connection.needs_keepalive())?;
            Some(idle.remove(found))
        };
        let Some(mut connection) = shared.shelf().look_through(shared.bb8(), silent) else {
            return;
        };
        connection.is_alive().await;
        // Back to its place in the order of last use.
        shared.shelf().look_through(shared.bb8(), |idle| {
            let later = idle.iter().position(|other| other.used_at() > connection.used_at());
            idle.insert(later.unwrap_or(idle.len()), connection);
        });
        drop(permit);
    }
}

/// A permit, if nobody else needs it.
async fn permit(shared: &Shared) -> Option<PgPermit> {
    Priority::Admin.scope(async { shared.gate().try_acquire(Location::caller()) }).await.ok()?
}
