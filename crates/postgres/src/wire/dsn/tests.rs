//! Addresses of databases as people write them.

use std::path::PathBuf;

use forebay_config::PostgresMode;

use super::{Encryption, Mode, Target};
use crate::PgError;

fn parse(url: &str) -> Target {
    Target::parse(url, PostgresMode::Auto).unwrap_or_else(|error| panic!("{url}: {error}"))
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

/// Fails when one of Supabase's three addresses is taken for another.
#[test]
fn the_mode_is_told_by_the_url() {
    let cases = [
        ("postgresql://postgres:p@db.abcdefgh.supabase.co:5432/postgres", Mode::Direct),
        ("postgresql://postgres:p@db.abcdefgh.supabase.co/postgres", Mode::Direct),
        ("postgresql://postgres:p@db.abcdefgh.supabase.co:6543/postgres", Mode::Transaction),
        ("postgres://postgres.ref:p@aws-0-eu-central-1.pooler.supabase.com:5432/d", Mode::Session),
        ("postgres://postgres.ref:p@aws-0-eu.pooler.supabase.com:6543/d", Mode::Transaction),
        ("postgres://postgres.ref:p@AWS-0-EU.Pooler.Supabase.COM.:6543/d", Mode::Transaction),
        ("postgres://u@h:6543/d?pgbouncer=true&sslmode=verify-full", Mode::Transaction),
        ("postgres://u@localhost/d?pgbouncer=false", Mode::Direct),
        ("postgres://u@h:6543/d", Mode::Direct),
        ("postgres://u@x.pooler.supabase.com.example.com:6543/d", Mode::Direct),
        ("postgres://u@%2Frun%2Fpg/d?schema=public", Mode::Direct),
    ];
    for (url, expected) in cases {
        assert_eq!(parse(url).mode, expected, "{url}");
    }
    assert_eq!(
        parse("postgres://u@h/d?application_name=x").config.get_application_name(),
        Some("x")
    );
}

#[test]
fn the_mode_that_is_asked_for_wins() {
    let asked = [
        (PostgresMode::Direct, Mode::Direct),
        (PostgresMode::Session, Mode::Session),
        (PostgresMode::Transaction, Mode::Transaction),
    ];
    for (asked, expected) in asked {
        let url = "postgres://u@a.pooler.supabase.com:6543/d?pgbouncer=true";
        let target = Target::parse(url, asked).expect("a usable url");
        assert_eq!(target.mode, expected);
    }
}

/// Supavisor takes the name of its tenant as an option.
#[test]
fn a_transaction_pooler_takes_options_that_set_nothing() {
    let url = "postgres://u@a.pooler.supabase.com:6543/d?options=reference%3Dabc";
    assert_eq!(parse(url).config.get_options(), Some("reference=abc"));
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
        ("postgres://u:secret@h/d?pgbouncer=yes", "pgbouncer is neither true nor false"),
        ("postgres://u:secret@h/d?connection_limit=1", "set postgres.connections_max"),
        ("postgres://u:secret@h/d?pool_timeout=1", "set postgres.acquire_timeout"),
        ("postgres://u:secret@h/d?schema=other", "schema: only public"),
        ("postgres://u:secret@h/d?sslcert=x", "sslcert is not supported"),
        ("postgres://u:secret@db.r.supabase.co/d?sslmode=disable", "only reached encrypted"),
        ("postgres://u:secret@x.pooler.SUPABASE.com/d?sslmode=disable", "only reached encrypted"),
        ("postgres://u:secret@db.r.supabase.co:5432,db.r.supabase.co:6543/d", "several kinds"),
        ("postgres://u:secret@h/d?pgbouncer=true&options=-c%20x=1", "ALTER ROLE .. SET"),
    ];
    for (url, expected) in cases {
        match Target::parse(url, PostgresMode::Auto) {
            Err(PgError::InvalidUrl { reason }) => {
                assert!(reason.contains(expected), "{url}: {reason}");
                assert!(!reason.contains("secret"), "{reason}");
            }
            other => panic!("{url}: {other:?}"),
        }
    }
}
