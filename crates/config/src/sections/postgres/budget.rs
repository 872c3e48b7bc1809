//! `[postgres.budget]`: what all processes together may take of one server.

use crate::layers::Layers;
use crate::reader::Reader;

use super::{CONNECTIONS_MAX_BOUNDS, CONNECTIONS_MAX_KEY};

/// How many processes of each service use the server, and how much of it they may take together.
#[derive(Debug, Clone, PartialEq)]
pub struct PostgresBudgetConfig {
    /// Share of the server's connections that may be planned for, 0.0 to 1.0.
    pub share: f64,
    /// Connections for everything else: migrations, seeding, monitoring, a person.
    pub reserved: u32,
    /// The services that use the server.
    pub services: Vec<ServiceConnections>,
}

/// What one service takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceConnections {
    /// Name of the service, such as `token-server`.
    pub service: &'static str,
    /// Processes of it.
    pub processes: u32,
    /// Connections of each at most: `postgres.connections_max` as that service reads it.
    pub connections_max: u32,
}

/// The services that keep connections, each with the setting that counts its processes.
const SERVICES: [(&str, &str); 2] = [
    ("token-server", "postgres.budget.token_server"),
    ("pool-server", "postgres.budget.pool_server"),
];

impl PostgresBudgetConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let share = reader.ratio("postgres.budget.share");
        let reserved = reader.integer("postgres.budget.reserved", 0..=10_000);
        let services: Vec<_> = SERVICES
            .iter()
            .map(|(service, key)| {
                let processes = reader.integer(key, 0..=10_000)?;
                // Filled in by `share_server`, which knows the layers of every service.
                Some(ServiceConnections { service, processes, connections_max: 0 })
            })
            .collect();
        let services = services.into_iter().collect::<Option<_>>()?;
        Some(Self { share: share?, reserved: reserved?, services })
    }

    /// Takes the other services' own `connections_max` from their layers. What is wrong in them is
    /// found by the process that uses it, so a value that cannot be read counts as the largest.
    pub(crate) fn share_server(&mut self, layers_of: impl Fn(&str) -> Layers) {
        for service in &mut self.services {
            let layers = layers_of(service.service);
            let read = Reader::new(&layers).integer(CONNECTIONS_MAX_KEY, CONNECTIONS_MAX_BOUNDS);
            service.connections_max = read.unwrap_or(*CONNECTIONS_MAX_BOUNDS.end());
        }
    }

    /// Processes that use the server.
    pub fn processes(&self) -> u32 {
        self.services.iter().map(|service| service.processes).fold(0, u32::saturating_add)
    }
}
