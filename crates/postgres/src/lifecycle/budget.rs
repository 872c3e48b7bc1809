//! Whether all processes together fit the server, with the arithmetic for a person.
//!
//! A server that runs out of connections refuses whoever comes last, at the busiest moment. The
//! numbers are known when a process starts, so that is when it is said.

use std::fmt;

use forebay_config::{PostgresBudgetConfig, PostgresConfig, ServiceConnections};

use tokio_postgres::Row;

use crate::wire::dsn::Mode;
use crate::{PgError, Sql};

/// What the server has.
pub(crate) static SERVER_LIMIT: Sql = Sql::new(
    "SELECT current_setting",
    "SELECT current_setting('max_connections')::bigint, \
            current_setting('superuser_reserved_connections')::bigint, \
            coalesce(current_setting('reserved_connections', true), '0')::bigint",
);

/// One more for every so many connections of a process: while the server still ends one that was
/// closed, another is opened in its place.
const CLEANING_PER: u32 = 10;

/// What a connection pool knows of the others on its server.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    mode: Mode,
    budget: PostgresBudgetConfig,
    pooler_connections_max: u32,
    pooler_clients_max: u32,
}

/// What there is to share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionLimit {
    /// The server's own connections.
    Server {
        /// `max_connections`.
        connections_max: u32,
        /// `superuser_reserved_connections`.
        superuser_reserved: u32,
        /// `reserved_connections`, of PostgreSQL 16 and later.
        reserved: u32,
    },
    /// Those that a session pooler has: `postgres.pooler_connections_max`.
    SessionPooler {
        /// Server connections for all its clients.
        connections_max: u32,
    },
    /// Those that a transaction pooler accepts: `postgres.pooler_clients_max`.
    TransactionPooler {
        /// Clients that it lets in.
        clients_max: u32,
    },
}

/// What all processes take, and of how much.
#[derive(Debug, Clone, PartialEq)]
pub struct BudgetReport {
    /// The services with their processes and the connections of each.
    pub services: Vec<ServiceConnections>,
    /// Connections for everything else.
    pub reserved: u32,
    /// What there is to share.
    pub limit: ConnectionLimit,
    /// Share of it that may be planned with.
    pub share: f64,
}

/// Why a process should not run.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BudgetError {
    /// All processes together could open more connections than the server has.
    #[error("the postgres connections do not fit: {0}")]
    Exceeded(BudgetReport),
    /// The server did not tell how many it has.
    #[error("ask postgres how many connections it has")]
    Unknown(#[from] PgError),
}

impl Limits {
    /// What `config` says.
    pub(crate) fn new(config: &PostgresConfig, mode: Mode) -> Self {
        Self {
            mode,
            budget: config.budget.clone(),
            pooler_connections_max: config.pooler_connections_max,
            pooler_clients_max: config.pooler_clients_max,
        }
    }

    /// The limit, unless the server has to be asked for it.
    pub(crate) fn known(&self) -> Option<ConnectionLimit> {
        match self.mode {
            Mode::Direct => None,
            Mode::Session => Some(ConnectionLimit::SessionPooler {
                connections_max: self.pooler_connections_max,
            }),
            Mode::Transaction => {
                Some(ConnectionLimit::TransactionPooler { clients_max: self.pooler_clients_max })
            }
        }
    }

    /// How many connections a process that is set to `connections_max` may have: behind a session
    /// pooler every client keeps a server connection, so each process keeps to its part.
    pub(crate) fn connections_max(&self, connections_max: u32) -> u32 {
        let Some(limit @ ConnectionLimit::SessionPooler { .. }) = self.known() else {
            return connections_max;
        };
        let fits =
            |part: &u32| self.report(limit, |service| service.connections_max.min(*part)).fits();
        (1..=connections_max).rev().find(fits).unwrap_or(1)
    }

    /// The sum, and whether it fits.
    pub(crate) fn check(&self, limit: ConnectionLimit) -> Result<BudgetReport, BudgetError> {
        let report = self.report(limit, |service| self.connections_max(service.connections_max));
        if report.fits() { Ok(report) } else { Err(BudgetError::Exceeded(report)) }
    }

    fn report(
        &self,
        limit: ConnectionLimit,
        connections_max: impl Fn(&ServiceConnections) -> u32,
    ) -> BudgetReport {
        let mut services = self.budget.services.clone();
        for service in &mut services {
            service.connections_max = connections_max(service);
        }
        let reserved = self.budget.reserved;
        BudgetReport { services, reserved, limit, share: self.budget.share }
    }
}

impl BudgetReport {
    /// Connections that all processes may have open at the same time, those for everything else
    /// included.
    pub fn planned(&self) -> u32 {
        let services = self.services.iter().map(|s| s.processes.saturating_mul(s.connections_max));
        let services = services.fold(0, u32::saturating_add);
        services.saturating_add(self.cleaning()).saturating_add(self.reserved)
    }

    /// Connections that the server may still be ending when others were opened in their place: one
    /// for ten of each process, rounded up.
    pub fn cleaning(&self) -> u32 {
        let each = |s: &ServiceConnections| {
            s.processes.saturating_mul(s.connections_max.div_ceil(CLEANING_PER))
        };
        self.services.iter().map(each).fold(0, u32::saturating_add)
    }

    /// Connections that may be planned with.
    pub fn allowed(&self) -> f64 {
        self.share * f64::from(self.limit.connections())
    }

    fn fits(&self) -> bool {
        // A share such as 0.8 has no exact form, and 16 of 20 connections are to fit.
        f64::from(self.planned()) <= self.allowed() + 1e-6
    }
}

impl fmt::Display for BudgetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ServiceConnections { service, processes, connections_max } in &self.services {
            write!(f, "{service} {processes} x {connections_max} + ")?;
        }
        let (cleaning, reserved) = (self.cleaning(), self.reserved);
        write!(f, "{cleaning} being closed + {reserved} for others = {}, ", self.planned())?;
        let sign = if self.fits() { "within" } else { "more than" };
        write!(f, "{sign} {:.1} = {} x {}", self.allowed(), self.share, self.limit)
    }
}

impl ConnectionLimit {
    /// The row of [`SERVER_LIMIT`].
    pub(crate) fn of_server(row: &Row) -> Result<Self, PgError> {
        let number = |index: usize| -> Result<u32, PgError> {
            let number: i64 = row.try_get(index)?;
            // All three are 32 bits wide there.
            Ok(u32::try_from(number).unwrap_or(0))
        };
        Ok(Self::Server {
            connections_max: number(0)?,
            superuser_reserved: number(1)?,
            reserved: number(2)?,
        })
    }

    /// Connections there are for us.
    pub fn connections(&self) -> u32 {
        match *self {
            Self::Server { connections_max, superuser_reserved, reserved } => {
                connections_max.saturating_sub(superuser_reserved).saturating_sub(reserved)
            }
            Self::SessionPooler { connections_max } => connections_max,
            Self::TransactionPooler { clients_max } => clients_max,
        }
    }
}

impl fmt::Display for ConnectionLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server { connections_max, superuser_reserved, reserved } => write!(
                f,
                "{} (max_connections {connections_max} - {superuser_reserved} for superusers - \
                 {reserved} reserved)",
                self.connections()
            ),
            Self::SessionPooler { connections_max } => {
                write!(f, "{connections_max} (postgres.pooler_connections_max)")
            }
            Self::TransactionPooler { clients_max } => {
                write!(f, "{clients_max} (postgres.pooler_clients_max)")
            }
        }
    }
}

#[cfg(test)]
mod tests;
