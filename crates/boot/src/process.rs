//! What a running process is given to live in its surroundings.

use std::sync::Arc;

use forebay_config::Setting;

use crate::readiness::Readiness;
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
