//! Where the servers of a test run are, as `cargo xtask test` tells.

use std::ffi::OsString;
use std::path::PathBuf;

/// URL of a database on a Postgres where databases may be created.
pub(crate) fn postgres_url() -> String {
    required("FOREBAY_TEST_POSTGRES_URL")
}

/// URL of a Redis that tests share, each below a key prefix of its own.
pub(crate) fn redis_url() -> String {
    required("FOREBAY_TEST_REDIS_URL")
}

/// Folder with `initdb` and `postgres`.
///
/// # Panics
///
/// When the variable is not set.
pub fn postgres_bin() -> PathBuf {
    required("FOREBAY_TEST_PG_BIN").into()
}

/// Where the libraries of [`postgres_bin`] are, when the system does not know them.
pub(crate) fn postgres_libraries() -> Option<OsString> {
    std::env::var_os("FOREBAY_TEST_PG_LIBRARIES").filter(|dirs| !dirs.is_empty())
}

/// A runnable `redis-server`.
///
/// # Panics
///
/// When the variable is not set.
pub fn redis_server() -> PathBuf {
    required("FOREBAY_TEST_REDIS_SERVER").into()
}

/// A runnable `pgbouncer`.
///
/// # Panics
///
/// When the variable is not set.
pub fn pgbouncer() -> PathBuf {
    required("FOREBAY_TEST_PGBOUNCER").into()
}

/// Folder with the built service binaries.
///
/// # Panics
///
/// When the variable is not set.
pub fn bin_dir() -> PathBuf {
    required("FOREBAY_TEST_BIN_DIR").into()
}

/// Where the files of private servers go: a folder that the user of Postgres can reach.
pub(crate) fn scratch_dir() -> PathBuf {
    std::env::var_os("FOREBAY_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from)
}

fn required(name: &str) -> String {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => value,
        _ => panic!(
            "{name} is not set: run `cargo xtask test`, which starts the servers and sets it"
        ),
    }
}
