//! What stands between us and the server, and what that allows.

use forebay_config::PostgresMode;

use super::{Place, invalid};
use crate::PgError;

/// What stands between us and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing.
    Direct,
    /// A pooler that gives each client a server connection for as long as it stays.
    Session,
    /// A pooler that changes the server connection after each transaction.
    Transaction,
}

/// Where Supabase's poolers listen for transactions: its shared one (Supavisor) and the pgbouncer
/// beside a database. Source: Supabase documentation, "Connect to your database".
const SUPABASE_TRANSACTION_PORT: u16 = 6543;

impl Mode {
    /// The mode that was asked for, or what the url tells.
    pub(super) fn of(
        asked: PostgresMode,
        pgbouncer: bool,
        places: &[Place],
    ) -> Result<Self, PgError> {
        match asked {
            PostgresMode::Direct => Ok(Self::Direct),
            PostgresMode::Session => Ok(Self::Session),
            PostgresMode::Transaction => Ok(Self::Transaction),
            PostgresMode::Auto if pgbouncer => Ok(Self::Transaction),
            PostgresMode::Auto => Self::of_places(places),
        }
    }

    /// Its name in the settings and in statistics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Session => "session",
            Self::Transaction => "transaction",
        }
    }

    /// Whether everything that a session keeps is ours: prepared statements, settings.
    pub(crate) fn keeps_session(self) -> bool {
        match self {
            Self::Direct | Self::Session => true,
            Self::Transaction => false,
        }
    }

    /// Whether the server has passed a cancel request on when the connection for it is closed. A
    /// pooler answers before, so the signal could still hit the next statement.
    pub(crate) fn cancels_at_once(self) -> bool {
        match self {
            Self::Direct => true,
            Self::Session | Self::Transaction => false,
        }
    }

    fn of_places(places: &[Place]) -> Result<Self, PgError> {
        let mut modes = places.iter().map(Self::of_place);
        let first = modes.next().unwrap_or(Self::Direct);
        if modes.any(|mode| mode != first) {
            return Err(invalid("its hosts are of several kinds, set postgres.mode"));
        }
        Ok(first)
    }

    fn of_place(place: &Place) -> Self {
        let Place::Tcp { host, port } = place else {
            return Self::Direct;
        };
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let is_pooler = host.ends_with(".pooler.supabase.com");
        let is_database = host.starts_with("db.") && host.ends_with(".supabase.co");
        match *port {
            SUPABASE_TRANSACTION_PORT if is_pooler || is_database => Self::Transaction,
            _ if is_pooler => Self::Session,
            _ => Self::Direct,
        }
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Session => "session",
            Self::Transaction => "transaction",
        })
    }
}
