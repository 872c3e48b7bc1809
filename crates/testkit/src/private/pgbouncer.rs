//! A pgbouncer of a test's own.

use anyhow::Context as _;
use forebay_provision::pgbouncer::{Options, PgBouncerTools, Server};
use forebay_provision::postgres::{Rows, query};
use url::Url;

use super::{PrivateDir, owned, start_on_free_port};
use crate::environment;

/// Few server connections for many clients, so that nearly every transaction meets another one. The
/// Postgres behind it is tried again at once, not after pgbouncer's 15 s.
const SETTINGS: [(&str, &str); 4] = [
    ("pool_mode", "transaction"),
    ("default_pool_size", "2"),
    ("max_client_conn", "400"),
    ("server_login_retry", "0"),
];

/// A pgbouncer of a test's own before a Postgres, in transaction mode with two server connections
/// for each database. It ends with its value.
#[derive(Debug)]
pub struct PrivatePgBouncer {
    url: Url,
    // Before the directory: the server ends before its files go.
    server: Server,
    _dir: PrivateDir,
}

impl PrivatePgBouncer {
    /// Starts one before the Postgres of `url`, which any database of this crate has.
    ///
    /// # Panics
    ///
    /// With the cause, when it does not start.
    pub fn start(url: &str) -> Self {
        Self::start_with(url, &[])
    }

    /// Starts one with settings such as `("default_pool_size", "1")` or, to let clients send
    /// start-up parameters, `("ignore_startup_parameters", "extra_float_digits,options")`.
    ///
    /// # Panics
    ///
    /// With the cause, when it does not start.
    pub fn start_with(url: &str, settings: &[(&str, &str)]) -> Self {
        let tools = match PgBouncerTools::probe(&environment::pgbouncer(), None) {
            Ok(tools) => tools,
            Err(reason) => panic!("FOREBAY_TEST_PGBOUNCER: {reason}"),
        };
        let mut url =
            crate::database::unwrap(Url::parse(url).context("read the URL of a Postgres"));
        let postgres_port = url.port().expect("the URL of a Postgres of a test has a port");
        let dir = PrivateDir::new("pgbouncer");
        // Of a setting that is there twice the last one holds.
        let settings = owned(&[&SETTINGS, settings].concat());
        let server = start_on_free_port(|port| {
            let (dir, settings) = (dir.data(), settings.clone());
            let options = Options { dir, port, postgres_port, settings, ..Options::default() };
            Server::start(&tools, options)
        });
        url.set_port(Some(server.port())).expect("a URL with a host takes a port");
        Self { url, server, _dir: dir }
    }

    /// The URL of the same database through this server; it stays the same after a restart.
    pub fn url(&self) -> String {
        self.url.to_string()
    }

    /// Port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// What its console answers to `sql`, such as `SHOW CLIENTS`: rows of columns in text form.
    /// Blocks, for some milliseconds.
    ///
    /// # Panics
    ///
    /// With the cause, when it does not answer.
    pub fn show(&self, sql: &str) -> Rows {
        let rows = query(self.port(), "pgbouncer", sql);
        crate::database::unwrap(rows.with_context(|| format!("ask pgbouncer to {sql}")))
    }

    /// Ends it at once, as a crash would: connections are reset and new ones refused.
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Suspends it: connections stay open and nothing answers.
    pub fn stop(&self) {
        self.server.suspend();
    }

    /// Lets it go on after [`PrivatePgBouncer::stop`].
    pub fn cont(&self) {
        self.server.resume();
    }

    /// Starts it again on the same port.
    ///
    /// # Panics
    ///
    /// With the cause, when it does not start.
    pub fn restart(&mut self) {
        super::unwrap(self.server.restart());
    }
}
