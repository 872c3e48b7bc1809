//! Which ports an instance uses: the well-known ones, else those of its last run, else free ones.

use anyhow::Context as _;
use forebay_provision::ports;

use crate::state::State;

/// The ports of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServicePorts {
    /// gRPC.
    pub(crate) grpc: u16,
    /// HTTP for operators.
    pub(crate) ops: u16,
}

/// Well-known ports.
pub(crate) const POSTGRES: u16 = 5432;
/// Redis.
pub(crate) const REDIS: u16 = 6379;
/// OTLP over gRPC.
pub(crate) const OTLP: u16 = 4317;
/// gRPC and ops port of each service, in the order of [`crate::state::SERVICES`].
pub(crate) const SERVICES: [(u16, u16); 2] = [(50051, 9464), (50052, 9465)];

/// All well-known ports.
pub(crate) fn preferred() -> Vec<u16> {
    let of_services = SERVICES.iter().flat_map(|(grpc, ops)| [*grpc, *ops]);
    [POSTGRES, REDIS, OTLP].into_iter().chain(of_services).collect()
}

/// Chooses ports, each at most once.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    last: Option<State>,
    reserved: Vec<u16>,
    moved: Vec<String>,
}

impl Plan {
    /// A plan that goes back to the ports of the last run where the well-known ones are taken.
    pub(crate) fn new(last: Option<State>) -> Self {
        Self { last, ..Self::default() }
    }

    /// The port of Postgres.
    pub(crate) fn postgres(&mut self) -> anyhow::Result<u16> {
        let last = self.last.as_ref().and_then(|last| State::port_of(last.backends.postgres.own()));
        self.choose("postgres", last, POSTGRES)
    }

    /// The port of Redis.
    pub(crate) fn redis(&mut self) -> anyhow::Result<u16> {
        let last = self.last.as_ref().and_then(|last| State::port_of(last.backends.redis.own()));
        self.choose("redis", last, REDIS)
    }

    /// The port of our trace receiver.
    pub(crate) fn otlp(&mut self) -> anyhow::Result<u16> {
        let last = self.last.as_ref().and_then(|last| {
            let traces = &last.backends.traces;
            State::port_of(traces.otlp.as_deref())
                .filter(|_| traces.source.as_deref() == Some(super::traces::BUILT_IN))
        });
        self.choose("otlp", last, OTLP)
    }

    /// The ports of the service with this index in [`crate::state::SERVICES`].
    pub(crate) fn service(&mut self, index: usize) -> anyhow::Result<ServicePorts> {
        let name = crate::state::SERVICES[index];
        let (grpc, ops) = SERVICES[index];
        let last = self.last.as_ref().and_then(|last| last.service(name)).cloned();
        let port = |address: fn(&crate::state::Service) -> Option<&str>| {
            State::port_of(last.as_ref().and_then(address))
        };
        let (last_grpc, last_ops) = (port(|s| s.grpc.as_deref()), port(|s| s.ops.as_deref()));
        Ok(ServicePorts {
            grpc: self.choose(&format!("{name} grpc"), last_grpc, grpc)?,
            ops: self.choose(&format!("{name} ops"), last_ops, ops)?,
        })
    }

    /// One line for every port that is not the well-known one.
    pub(crate) fn moved(&self) -> &[String] {
        &self.moved
    }

    fn choose(&mut self, what: &str, last: Option<u16>, preferred: u16) -> anyhow::Result<u16> {
        let wanted: Vec<u16> = [preferred].into_iter().chain(last).collect();
        let port = ports::choose(&wanted, &self.reserved)
            .with_context(|| format!("no free port for {what}"))?;
        self.reserved.push(port);
        self.moved.retain(|line| !line.starts_with(&format!("{what}:")));
        if port != preferred {
            let why = if last == Some(port) { "it is taken; as last time" } else { "it is taken" };
            self.moved.push(format!("{what}: {port} instead of {preferred}, {why}"));
        }
        Ok(port)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_port_is_given_once_and_a_taken_one_moves() {
        let taken = TcpListener::bind(ports::loopback(0)).unwrap();
        let taken = (taken.local_addr().unwrap().port(), taken);
        let mut plan = Plan::default();
        let first = plan.choose("a", None, taken.0).unwrap();
        assert_ne!(first, taken.0);
        assert!(plan.moved()[0].contains("it is taken"), "{:?}", plan.moved());
        let second = plan.choose("b", Some(first), taken.0).unwrap();
        assert!(second != first && second != taken.0);
        let mut next = Plan::default();
        assert_eq!(next.choose("a", Some(first), taken.0).unwrap(), first);
        assert!(next.moved()[0].contains("as last time"), "{:?}", next.moved());
        drop(taken.1);
        let mut later = Plan::default();
        assert_eq!(later.choose("a", Some(first), taken.0).unwrap(), taken.0);
        assert!(later.moved().is_empty(), "{:?}", later.moved());
    }
}
