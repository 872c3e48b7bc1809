//! Reads the address of a database, including the parts that the driver does not know.

use std::net::IpAddr;
use std::path::PathBuf;

use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use crate::PgError;

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

/// What stands between us and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The server itself, or a pooler that gives each client a server connection for its session.
    Session,
    /// A pooler that changes the server connection after each transaction (`pgbouncer=true`).
    Transaction,
}

impl Target {
    /// Reads `postgres://user:password@host:port/database?options`.
    ///
    /// `sslmode=disable` and `verify-full` mean what they say in libpq. Off
    /// loopback every other mode is treated as `verify-full`: a mode that
    /// encrypts without checking the certificate protects from nobody.
    pub(crate) fn parse(url: &str) -> Result<Self, PgError> {
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
        let mode = if known.pgbouncer { Mode::Transaction } else { Mode::Session };
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

/// The parameters that we read ourselves, and the address without them.
struct Parameters {
    rest: String,
    sslmode: Option<String>,
    sslrootcert: Option<PathBuf>,
    pgbouncer: bool,
}

impl Parameters {
    fn split(url: &str) -> Result<Self, PgError> {
        if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
            return Err(invalid("it does not start with postgres://"));
        }
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut known =
            Self { rest: base.to_owned(), sslmode: None, sslrootcert: None, pgbouncer: false };
        let mut separator = '?';
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "sslmode" => known.sslmode = Some(value.to_owned()),
                "sslrootcert" => known.sslrootcert = Some(percent_decode(value)?.into()),
                "pgbouncer" => known.pgbouncer = value == "true",
                _ => {
                    known.rest.push(separator);
                    known.rest.push_str(pair);
                    separator = '&';
                }
            }
        }
        Ok(known)
    }

    fn encryption(&self, places: &[Place]) -> Result<Encryption, PgError> {
        // libpq's `sslrootcert=system` names the trust store of the system.
        let system =
            || self.sslrootcert.as_deref().is_some_and(|path| path.as_os_str() == "system");
        let roots = if system() { None } else { self.sslrootcert.clone() };
        let is_local = places.iter().all(Place::is_local);
        match self.sslmode.as_deref() {
            Some("disable") => Ok(Encryption::Plain),
            None | Some("allow" | "prefer") if is_local => Ok(Encryption::Plain),
            None | Some("allow" | "prefer" | "require" | "verify-ca" | "verify-full") => {
                Ok(Encryption::VerifyFull { roots })
            }
            Some(_) => {
                Err(invalid("sslmode is not one of disable, require, verify-ca, verify-full"))
            }
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

fn percent_decode(text: &str) -> Result<String, PgError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or_else(|| invalid("a % is not followed by two hexadecimal digits"))?);
        rest = tail.get(2..).unwrap_or_default();
    }
    String::from_utf8(bytes).map_err(|_| invalid("a parameter is not UTF-8"))
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
