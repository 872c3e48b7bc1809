//! The parameters of a url that the driver does not know or does not read as we do.

use std::path::PathBuf;

use super::{Encryption, Place, invalid};
use crate::PgError;

/// The parameters that we read ourselves, and the address without them.
pub(super) struct Parameters {
    pub(super) rest: String,
    pub(super) pgbouncer: bool,
    sslmode: Option<String>,
    sslrootcert: Option<PathBuf>,
}

/// Parameters of other drivers that we do not follow, each with where to turn instead. Not
/// following them in silence would leave somebody waiting for an effect.
const REFUSED: [(&str, &str); 11] = [
    ("connection_limit", "set postgres.connections_max"),
    ("pool_timeout", "set postgres.acquire_timeout"),
    ("socket_timeout", "set postgres.statement_timeout"),
    ("statement_cache_size", "statements are kept unless pgbouncer=true is given"),
    ("prepareThreshold", "statements are kept unless pgbouncer=true is given"),
    ("sslcert", "client certificates are not supported"),
    ("sslkey", "client certificates are not supported"),
    ("sslidentity", "client certificates are not supported"),
    ("sslpassword", "client certificates are not supported"),
    ("sslaccept", "use sslmode"),
    ("ssl", "use sslmode"),
];

impl Parameters {
    /// Takes `url` apart.
    pub(super) fn split(url: &str) -> Result<Self, PgError> {
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
                "pgbouncer" => known.pgbouncer = read_pgbouncer(value)?,
                "schema" if value == "public" => {}
                "schema" => return Err(invalid("schema: only public is supported")),
                _ => {
                    if let Some((key, instead)) = REFUSED.iter().find(|(name, _)| *name == key) {
                        return Err(invalid(format!("{key} is not supported: {instead}")));
                    }
                    known.rest.push(separator);
                    known.rest.push_str(pair);
                    separator = '&';
                }
            }
        }
        Ok(known)
    }

    /// How connections to `places` are to be protected.
    pub(super) fn encryption(&self, places: &[Place]) -> Result<Encryption, PgError> {
        // libpq's `sslrootcert=system` names the trust store of the system.
        let system =
            || self.sslrootcert.as_deref().is_some_and(|path| path.as_os_str() == "system");
        let roots = if system() { None } else { self.sslrootcert.clone() };
        let is_local = places.iter().all(Place::is_local);
        let is_supabase = places.iter().any(Place::is_supabase);
        match self.sslmode.as_deref() {
            // It accepts plaintext unless told otherwise, and the way there is the internet.
            Some("disable") if is_supabase => {
                Err(invalid("sslmode=disable: supabase is only reached encrypted"))
            }
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

fn read_pgbouncer(value: &str) -> Result<bool, PgError> {
    value.parse().map_err(|_| invalid("pgbouncer is neither true nor false"))
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
