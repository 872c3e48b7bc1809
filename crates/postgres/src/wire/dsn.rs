//! Reads the address of a database, including the parts that the driver does not know.

use std::net::IpAddr;
use std::path::PathBuf;

use forebay_config::PostgresMode;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use crate::PgError;

pub(crate) use mode::Mode;
use parameters::Parameters;

mod mode;
mod parameters;

/// Where to connect and how.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// User, password, database and start-up options.
    pub(crate) config: tokio_postgres::Config,
    /// Places to try, in order.
    pub(crate) places: Vec<Place>,
    /// How the connection is protected.
    pub(crate) encryption: Encryption,
    /// What stands between us and the server.
    pub(crate) mode: Mode,
    /// Name of the database, for spans.
    pub(crate) database: String,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Host name or address, and port.
    Tcp { host: String, port: u16 },
    /// Path of a Unix socket.
    Unix(PathBuf),
}

/// How the connection is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// Not at all: loopback, a Unix socket, or asked for with `sslmode=disable`.
    Plain,
    /// TLS; the certificate must be valid for the host.
    VerifyFull {
        /// PEM file with the trusted roots; `None` trusts those of the system.
        roots: Option<PathBuf>,
    },
}

impl Target {
    /// Reads `postgres://user:password@host:port/database?options`.
    ///
    /// `sslmode=disable` and `verify-full` mean what they say in libpq. Off
    /// loopback every other mode is treated as `verify-full`: a mode that
    /// encrypts without checking the certificate protects from nobody. Supabase
    /// is never reached in the clear. `asked` overrides what the url tells about the mode.
    pub(crate) fn parse(url: &str, asked: PostgresMode) -> Result<Self, PgError> {
        let known = Parameters::split(url)?;
        let config: tokio_postgres::Config =
            known.rest.parse().map_err(|error: tokio_postgres::Error| invalid(describe(&error)))?;
        if config.get_target_session_attrs() != TargetSessionAttrs::Any {
            return Err(invalid("target_session_attrs is not supported"));
        }
        let places = places(&config)?;
        let encryption = known.encryption(&places)?;
        let mut config = config;
        config.ssl_mode(match encryption {
            Encryption::Plain => SslMode::Disable,
            Encryption::VerifyFull { .. } => SslMode::Require,
        });
        if config.get_user().is_none() {
            return Err(invalid("it names no user"));
        }
        let database = config.get_dbname().or(config.get_user()).unwrap_or_default().to_owned();
        let mode = Mode::of(asked, known.pgbouncer, &places)?;
        if mode == Mode::Transaction && config.get_options().is_some_and(sets_session) {
            return Err(invalid(
                "options: a transaction pooler takes no settings, use ALTER ROLE .. SET",
            ));
        }
        Ok(Self { config, places, encryption, mode, database })
    }
}

impl Place {
    fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => {
                host == "localhost"
                    || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
            }
        }
    }

    /// Whether it belongs to Supabase, under any of its domains.
    fn is_supabase(&self) -> bool {
        match self {
            Self::Unix(_) => false,
            Self::Tcp { host, .. } => {
                let mut labels = host.trim_end_matches('.').split('.').skip(1).peekable();
                // `x.supabase.co`, and not a host that happens to be called `x.supabase`.
                std::iter::from_fn(|| labels.next().filter(|_| labels.peek().is_some()))
                    .any(|label| label.eq_ignore_ascii_case("supabase"))
            }
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

fn places(config: &tokio_postgres::Config) -> Result<Vec<Place>, PgError> {
    let ports = config.get_ports();
    let port = |index: usize| ports.get(index).or(ports.first()).copied().unwrap_or(5432);
    let addresses = config.get_hostaddrs();
    let places: Vec<_> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(index, host)| match host {
            Host::Tcp(host) => Place::Tcp { host: host.clone(), port: port(index) },
            Host::Unix(path) => Place::Unix(path.join(format!(".s.PGSQL.{}", port(index)))),
        })
        .collect();
    if !addresses.is_empty() {
        return Err(invalid("hostaddr is not supported, give the address as host"));
    }
    if places.is_empty() {
        return Err(invalid("it names no host"));
    }
    // The driver ends the password at the first @, so the rest of it would pass for a host, and
    // hosts are shown in errors and spans.
    if places.iter().any(|place| matches!(place, Place::Tcp { host, .. } if host.contains('@'))) {
        return Err(invalid("the password holds an @: write it as %40"));
    }
    Ok(places)
}

/// Whether start-up options set anything. Supavisor also takes the name of its tenant there.
fn sets_session(options: &str) -> bool {
    options.split_whitespace().any(|word| word.starts_with("-c") || word.starts_with("--"))
}

/// The driver's reason, which names the parameter at fault and not its value.
fn describe(error: &tokio_postgres::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

fn invalid(reason: impl Into<String>) -> PgError {
    PgError::InvalidUrl { reason: reason.into() }
}

#[cfg(test)]
mod tests;
