//! Real servers: started, hurt, started again, and never mixed up with somebody else's.

#![expect(clippy::unwrap_used, reason = "a helper of a test that cannot go on fails the test")]

mod guarded;
mod pgbouncer_server;
mod postgres_server;
mod redis_server;
mod standby_server;

use std::path::PathBuf;
use std::time::Duration;

use forebay_provision::identity::RunAs;
use forebay_provision::pgbouncer::PgBouncerTools;
use forebay_provision::postgres::PostgresTools;
use forebay_provision::redis::RedisTools;

/// Long enough for a slow machine, and never waited for in full unless a test fails.
const SOON: Duration = Duration::from_secs(20);

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(5);

fn variable(name: &str) -> PathBuf {
    match std::env::var_os(name) {
        Some(value) => PathBuf::from(value),
        None => panic!("{name} is not set: run `cargo xtask test`"),
    }
}

fn postgres_tools() -> PostgresTools {
    let libraries = std::env::var_os("FOREBAY_TEST_PG_LIBRARIES").filter(|dirs| !dirs.is_empty());
    PostgresTools::probe(&variable("FOREBAY_TEST_PG_BIN"), libraries).unwrap()
}

fn redis_tools() -> RedisTools {
    RedisTools::probe(&variable("FOREBAY_TEST_REDIS_SERVER"), None).unwrap()
}

fn pgbouncer_tools() -> PgBouncerTools {
    PgBouncerTools::probe(&variable("FOREBAY_TEST_PGBOUNCER"), None).unwrap()
}

/// A directory that the servers' user can reach.
fn dir() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let base = std::env::var_os("FOREBAY_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(base).unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    if let Some(user) = RunAs::for_servers() {
        assert!(user.reaches(dir.path()), "set TMPDIR to a directory that everybody can enter");
    }
    dir
}

fn free_port() -> u16 {
    forebay_provision::ports::choose(&[], &[]).unwrap()
}

/// Waits for a condition; a test that waits in vain fails.
fn until(what: &str, condition: impl Fn() -> bool) {
    let met = forebay_provision::wait_until(SOON, STEP, || condition().then_some(()));
    assert!(met.is_some(), "{what}");
}
