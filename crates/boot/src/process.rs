//! What a running process is given to live in its surroundings.

use std::sync::Arc;

use forebay_config::Setting;

use crate::probe;
use crate::readiness::{Component, Readiness};
use crate::shutdown::Shutdown;

/// The surroundings of a service: how it learns of a stop, how it reports, how it was set.
#[derive(Debug, Clone)]
pub struct Process {
    /// The name of the service, such as `token-server`.
    pub service: &'static str,
    /// Fires when the process is to stop.
    pub shutdown: Shutdown,
    /// Where components report.
    pub readiness: Readiness,
    /// Every setting in force with its source; secrets are redacted.
    pub settings: Arc<[Setting]>,
    /// Metrics and the log level, for the operators' service.
    pub telemetry: forebay_telemetry::Handle,
}

impl Process {
    /// Probes a component about once a second until the process stops, beginning at once,
    /// and reports what it finds: ready, or degraded with the error and its causes. A
    /// probe may take three seconds and is not traced. Changes are logged, repetitions
    /// are not.
    ///
    /// Call it from within the runtime of the process.
    pub fn watch<P, Fut, E>(&self, component: Component, probe: P)
    where
        P: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + Send + 'static,
    {
        // The task ends with the shutdown it is given, at the latest with the runtime.
        tokio::spawn(probe::watch(self.shutdown.clone(), component, probe));
    }
}
