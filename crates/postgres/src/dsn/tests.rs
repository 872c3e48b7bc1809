//! Addresses of databases as people write them.

use std::path::PathBuf;

use super::{Encryption, Mode, Target};
use crate::PgError;

fn parse(url: &str) -> Target {
    Target::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"))
}

#[test]
fn encryption_follows_sslmode_and_place() {
    let system = || Encryption::VerifyFull { roots: None };
    let file = |path: &str| Encryption::VerifyFull { roots: Some(PathBuf::from(path)) };
    let cases = [
        ("postgres://u@127.0.0.1/d", Encryption::Plain),
        ("postgres://u@localhost/d?sslmode=prefer", Encryption::Plain),
        ("postgres://u@[::1]/d", Encryption::Plain),
        ("postgres://u@%2Frun%2Fpg/d", Encryption::Plain),
        ("postgres://u@localhost/d?sslmode=verify-full", system()),
        ("postgres://u@db.example.com/d", system()),
        ("postgres://u@db.example.com/d?sslmode=prefer", system()),
        ("postgres://u@db.example.com/d?sslmode=require", system()),
        ("postgres://u@db.example.com/d?sslmode=verify-full&sslrootcert=system", system()),
        ("postgres://u@db.example.com/d?sslrootcert=%2Fetc%2Fca%20x.pem", file("/etc/ca x.pem")),
        ("postgres://u@db.example.com/d?sslmode=disable", Encryption::Plain),
    ];
    for (url, expected) in cases {
        assert_eq!(parse(url).encryption, expected, "{url}");
    }
}

#[test]
fn places_and_database_are_read() {
    let cases = [
        ("postgres://u:p%40ss@h:6543/d?sslmode=disable", "h:6543", "d"),
        ("postgresql://u@h?sslmode=disable&connect_timeout=3", "h:5432", "u"),
        ("postgres://u@[::1]:1/d", "[::1]:1", "d"),
        ("postgres://u@a:1,b:2/d?sslmode=disable", "a:1,b:2", "d"),
        ("postgres://u@%2Frun%2Fpg/d", "/run/pg/.s.PGSQL.5432", "d"),
    ];
    for (url, places, database) in cases {
        let target = parse(url);
        let read: Vec<_> = target.places.iter().map(ToString::to_string).collect();
        assert_eq!(
            (read.join(",").as_str(), target.database.as_str()),
            (places, database),
            "{url}"
        );
    }
}

#[test]
fn a_transaction_pooler_is_declared() {
    let url = "postgres://u@h:6543/d?pgbouncer=true&sslmode=verify-full&application_name=x";
    assert_eq!(parse(url).mode, Mode::Transaction);
    assert_eq!(parse(url).config.get_application_name(), Some("x"));
    assert_eq!(parse("postgres://u@localhost/d").mode, Mode::Session);
}

#[test]
fn what_cannot_be_used_is_refused_without_showing_the_address() {
    let cases = [
        ("", "it does not start with postgres://"),
        ("host=h password=secret", "it does not start with postgres://"),
        ("postgres://u:secret@h/d?sslmode=maybe", "sslmode is not one of"),
        ("postgres://u:secret@h:port/d?sslmode=disable", "invalid value for option `port`"),
        ("postgres://u:secret@h/d?wrong=secret", "unknown option `wrong`"),
        ("postgres://u:secret@h/d?target_session_attrs=read-write", "target_session_attrs"),
        ("postgres://localhost/d", "it names no user"),
        ("postgres://u:secret@/d", "it names no host"),
    ];
    for (url, expected) in cases {
        match Target::parse(url) {
            Err(PgError::InvalidUrl { reason }) => {
                assert!(reason.contains(expected), "{url}: {reason}");
                assert!(!reason.contains("secret"), "{reason}");
            }
            other => panic!("{url}: {other:?}"),
        }
    }
}
