//! Servers of a test's own, which it may break.

mod pgbouncer;
mod postgres;
mod redis;
mod replica;

use std::fs;
use std::path::PathBuf;

use forebay_provision::{ProvisionError, guard, ports};
use uuid::Uuid;

use crate::environment;

pub use pgbouncer::PrivatePgBouncer;
pub use postgres::PrivatePostgres;
pub use redis::PrivateRedis;
pub use replica::PrivateReplica;

/// How often another free port is tried when somebody takes the one just chosen.
const PORT_ATTEMPTS: u32 = 5;

/// A directory that goes with its value, and with the process when that is killed.
#[derive(Debug)]
struct PrivateDir(PathBuf);

impl PrivateDir {
    fn new(kind: &str) -> Self {
        let name = format!("forebay-test-{kind}-{}", Uuid::now_v7().simple());
        let path = environment::scratch_dir().join(name);
        guard::add_dir(&path);
        Self(path)
    }

    /// A directory inside for the server, so that what it makes beside its own goes as well.
    fn data(&self) -> PathBuf {
        self.0.join("data")
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        // It may not exist yet, and what cannot be removed lies in the temporary directory.
        let _removed = fs::remove_dir_all(&self.0);
    }
}

/// The value, or the end of the test with the whole chain of causes.
fn unwrap<T>(result: Result<T, ProvisionError>) -> T {
    crate::database::unwrap(result.map_err(anyhow::Error::new))
}

/// Settings as the servers take them.
fn owned(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Starts a server on a free port of 127.0.0.1.
fn start_on_free_port<S>(mut start: impl FnMut(u16) -> Result<S, ProvisionError>) -> S {
    let mut attempts = 0;
    loop {
        let port = ports::choose(&[], &[]).expect("127.0.0.1 has a free port");
        match start(port) {
            Ok(server) => return server,
            Err(ProvisionError::PortTaken { .. }) if attempts < PORT_ATTEMPTS => attempts += 1,
            failed => return unwrap(failed),
        }
    }
}
