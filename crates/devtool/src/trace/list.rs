//! The newest traces, one line each.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use super::clock::{Millis, Utc};
use super::model::Trace;

/// The services that probes call.
const PROBED: [&str; 2] = ["grpc.health.", "grpc.reflection."];

/// Which traces are listed.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) limit: usize,
    /// Only traces this service took part in.
    pub(crate) service: Option<String>,
    /// Only traces with a failed span.
    pub(crate) errors: bool,
    /// Only traces that took as many milliseconds.
    pub(crate) millis_min: u64,
    /// Also what only asks how a server is or what it serves: probes do so every second.
    pub(crate) probes: bool,
}

impl Filter {
    /// How many traces are listed when nobody says otherwise: a screenful.
    pub(crate) const LIMIT: usize = 20;

    /// The traces that pass, in the order given.
    pub(crate) fn apply<'a>(&self, traces: &'a [Trace]) -> Vec<&'a Trace> {
        let passes = |trace: &&Trace| {
            let probe = trace
                .root()
                .is_some_and(|root| PROBED.iter().any(|service| root.name.starts_with(service)));
            let service = self.service.as_deref();
            service.is_none_or(|service| trace.services().contains(service))
                && (self.probes || !probe)
                && (!self.errors || trace.errors() > 0)
                && trace.duration() >= self.millis_min.saturating_mul(1_000_000)
        };
        traces.iter().filter(passes).take(self.limit).collect()
    }
}

/// A table for people.
pub(crate) fn table(traces: &[&Trace]) -> String {
    let name = |trace: &Trace| trace.root().map_or("", |root| &root.name).to_owned();
    let width = traces.iter().map(|trace| name(trace).chars().count()).max().unwrap_or(0).max(4);
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _infallible = writeln!(
        text,
        "{:<32}  {:<24}  {:<width$}  {:>9}  {:>5}  {:>6}  services",
        "trace", "start", "root", "duration", "spans", "failed"
    );
    for trace in traces {
        let services: Vec<&str> = trace.services().into_iter().collect();
        let _infallible = writeln!(
            text,
            "{}  {:<24}  {:<width$}  {:>9}  {:>5}  {:>6}  {}",
            trace.id,
            Utc(trace.start()),
            name(trace),
            Millis(trace.duration()),
            trace.spans.len(),
            trace.errors(),
            services.join(", "),
        );
    }
    text
}

/// What `--json` prints for one trace.
pub(crate) fn summary(trace: &Trace) -> Json {
    let root = trace.root();
    json!({
        "trace_id": trace.id,
        "start": Utc(trace.start()).to_string(),
        "root": root.map(|root| root.name.as_str()),
        "root_service": root.map(|root| &*root.service),
        "duration_ns": trace.duration(),
        "spans": trace.spans.len(),
        "services": trace.services(),
        "errors": trace.errors(),
    })
}
