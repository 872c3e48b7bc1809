//! A standby of a Postgres of a test's own.

use forebay_provision::postgres::{Options, Server};

use super::postgres::DATABASE;
use super::{PrivateDir, PrivatePostgres, start_on_free_port, unwrap};

/// A streaming standby of a [`PrivatePostgres`], on a port of its own. It ends with its value.
#[derive(Debug)]
pub struct PrivateReplica {
    // Before the directory: the server ends before its files go.
    server: Server,
    _dir: PrivateDir,
}

impl PrivateReplica {
    /// Copies `primary` as it is now and follows it.
    ///
    /// # Panics
    ///
    /// With the cause, when it does not start.
    pub fn of(primary: &PrivatePostgres) -> Self {
        let dir = PrivateDir::new("replica");
        let server = start_on_free_port(|port| {
            let options = Options { dir: dir.data(), port, ..Options::default() };
            primary.server().start_standby(options)
        });
        Self { server, _dir: dir }
    }

    /// The URL of the database; it stays the same after a restart and a promotion.
    pub fn url(&self) -> String {
        self.server.url(DATABASE)
    }

    /// Port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Makes it a primary, which the old one does not learn. Returns when it takes writes.
    ///
    /// # Panics
    ///
    /// With the cause, when it does not become one.
    pub fn promote(&self) {
        unwrap(self.server.promote());
    }

    /// Freezes what its readers see: it goes on receiving and stops replaying.
    ///
    /// # Panics
    ///
    /// With the cause, when it does not.
    pub fn pause_replay(&self) {
        unwrap(self.server.pause_replay());
    }

    /// Lets it catch up after [`PrivateReplica::pause_replay`]; does not wait until it has.
    ///
    /// # Panics
    ///
    /// With the cause, when it does not.
    pub fn resume_replay(&self) {
        unwrap(self.server.resume_replay());
    }

    /// Ends it at once, as a crash would: connections are reset and new ones refused.
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Suspends it with all its backends: connections stay open and nothing answers.
    pub fn stop(&self) {
        self.server.suspend();
    }

    /// Lets it go on after [`PrivateReplica::stop`].
    pub fn cont(&self) {
        self.server.resume();
    }

    /// Starts it again on the same port.
    ///
    /// # Panics
    ///
    /// With the cause, when it does not start.
    pub fn restart(&mut self) {
        unwrap(self.server.restart());
    }
}
