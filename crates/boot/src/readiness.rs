//! What a process says about its parts, and what follows for the whole.
//!
//! The model is small on purpose:
//!
//! - A process is **starting** until every required component was ready once.
//!   A process with no component is starting too: nothing has vouched for it.
//! - From then on a component that is not ready makes the process **degraded**,
//!   never unready. Reads are served from the cache while a store is away, and
//!   taking every replica out of rotation because one shared store is down would
//!   turn a partial failure into a whole one.
//! - Once a stop is asked for the process is **draining** and takes no new work.
//!
//! Register every component before the first one is set ready: a required
//! component registered later puts the process back into starting until it was
//! ready once.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

/// The readiness of one process. Clones share one state.
#[derive(Debug, Clone)]
pub struct Readiness {
    shared: Arc<Shared>,
}

/// The state of the whole process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessState {
    /// Some required component was never ready.
    Starting,
    /// Every component is ready.
    Ready,
    /// Started, and some component is not ready now. Requests are served.
    Degraded,
    /// A stop was asked for. New work should go elsewhere.
    Draining,
}

impl ProcessState {
    /// The lower-case word used in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
        }
    }

    /// Whether new requests should be sent to this process.
    pub fn serves(self) -> bool {
        match self {
            Self::Ready | Self::Degraded => true,
            Self::Starting | Self::Draining => false,
        }
    }
}

/// The state of one component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ComponentState {
    /// Nothing was reported yet.
    Starting,
    /// It works.
    Ready,
    /// It does not work, with the reason for an operator.
    Degraded(String),
}

impl ComponentState {
    /// The lower-case word used in reports.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded(_) => "degraded",
        }
    }
}

/// One component as it was when the report was made.
#[derive(Debug, Clone)]
pub struct ComponentReport {
    /// Its name, such as `postgres`.
    pub name: &'static str,
    /// Whether the process is starting until this was ready once.
    pub required: bool,
    /// Its state.
    pub state: ComponentState,
    /// When the state last changed.
    pub since: Instant,
}

/// The handle with which a component reports about itself.
#[derive(Debug, Clone)]
pub struct Component {
    shared: Arc<Shared>,
    name: &'static str,
}

impl Readiness {
    /// No component, not draining.
    pub fn new() -> Self {
        let (state, _) = watch::channel(ProcessState::Starting);
        Self { shared: Arc::new(Shared { components: Mutex::default(), state }) }
    }

    /// Registers a component that must be ready once before the process serves.
    /// Registering a name again gives another handle to the same component.
    pub fn component(&self, name: &'static str) -> Component {
        self.register(name, true)
    }

    /// Registers a component without which the process can start, such as a cache.
    pub fn optional_component(&self, name: &'static str) -> Component {
        self.register(name, false)
    }

    /// The state of the whole process.
    pub fn state(&self) -> ProcessState {
        *self.shared.state.borrow()
    }

    /// Whether every required component was ready once. Draining does not undo it.
    pub fn is_started(&self) -> bool {
        self.shared.components.lock().is_started()
    }

    /// Follows the state of the whole process, for a health service.
    pub fn watch(&self) -> watch::Receiver<ProcessState> {
        self.shared.state.subscribe()
    }

    /// Every component, in the order of registration.
    pub fn components(&self) -> Vec<ComponentReport> {
        let components = self.shared.components.lock();
        components.list.iter().map(|tracked| tracked.report.clone()).collect()
    }

    /// From now on the process is draining, whatever its components say.
    pub fn set_draining(&self) {
        self.shared.change(|components| components.draining = true);
    }

    fn register(&self, name: &'static str, required: bool) -> Component {
        self.shared.change(|components| {
            if components.list.iter().all(|tracked| tracked.report.name != name) {
                let state = ComponentState::Starting;
                let report = ComponentReport { name, required, state, since: Instant::now() };
                components.list.push(Tracked { report, was_ready: false });
            }
        });
        Component { shared: Arc::clone(&self.shared), name }
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Component {
    /// The component works.
    pub fn set_ready(&self) {
        self.set(ComponentState::Ready);
    }

    /// The component does not work. The reason is shown to operators, never to callers.
    pub fn set_degraded(&self, reason: impl Into<String>) {
        self.set(ComponentState::Degraded(reason.into()));
    }

    fn set(&self, state: ComponentState) {
        self.shared.change(|components| {
            let found = components.list.iter_mut().find(|t| t.report.name == self.name);
            let tracked = found.expect("a handle exists only for a registered component");
            tracked.was_ready |= state == ComponentState::Ready;
            if tracked.report.state != state {
                // A new reason for the same trouble does not restart its clock.
                if tracked.report.state.as_str() != state.as_str() {
                    tracked.report.since = Instant::now();
                    announce(self.name, &state);
                }
                tracked.report.state = state;
            }
        });
    }
}

/// What all handles share.
#[derive(Debug)]
struct Shared {
    components: Mutex<Components>,
    state: watch::Sender<ProcessState>,
}

#[derive(Debug, Default)]
struct Components {
    list: Vec<Tracked>,
    draining: bool,
}

#[derive(Debug)]
struct Tracked {
    report: ComponentReport,
    was_ready: bool,
}

impl Shared {
    /// Applies a change and publishes what follows from it, under one lock so that
    /// two changes cannot publish in the wrong order.
    fn change(&self, apply: impl FnOnce(&mut Components)) {
        let mut components = self.components.lock();
        apply(&mut components);
        let now = components.state();
        self.state.send_if_modified(|state| std::mem::replace(state, now) != now);
    }
}

impl Components {
    fn is_started(&self) -> bool {
        let waits = |tracked: &Tracked| tracked.report.required && !tracked.was_ready;
        !self.list.is_empty() && !self.list.iter().any(waits)
    }

    fn state(&self) -> ProcessState {
        let works = |tracked: &Tracked| tracked.report.state == ComponentState::Ready;
        if self.draining {
            ProcessState::Draining
        } else if !self.is_started() {
            ProcessState::Starting
        } else if self.list.iter().all(works) {
            ProcessState::Ready
        } else {
            ProcessState::Degraded
        }
    }
}

/// One line per change of a component, here because every component needs it.
fn announce(name: &str, state: &ComponentState) {
    match state {
        ComponentState::Degraded(reason) => {
            tracing::warn!(component = name, reason, "component degraded");
        }
        ComponentState::Ready => tracing::info!(component = name, "component ready"),
        ComponentState::Starting => {}
    }
}

#[cfg(test)]
mod tests;
