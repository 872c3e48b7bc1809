//! A Postgres of a test's own.

use anyhow::Context as _;
use forebay_postgres::maintenance::Maintenance;
use forebay_postgres::migrate;
use forebay_provision::postgres::{Options, PostgresTools, Server};

use super::{PrivateDir, owned, start_on_free_port};
use crate::database::unwrap;
use crate::environment;

/// The database that a test works in.
pub(super) const DATABASE: &str = "forebay";

/// Nothing outlives the machine, so nothing has to reach the disk. Commits do reach the kernel
/// (`synchronous_commit` stays on): they must be there after the server was killed.
const SETTINGS: [(&str, &str); 2] = [("fsync", "off"), ("full_page_writes", "off")];

/// A Postgres of a test's own on a port of its own. It ends with its value.
#[derive(Debug)]
pub struct PrivatePostgres {
    // Before the directory: the server ends before its files go.
    server: Server,
    dir: PrivateDir,
}

impl PrivatePostgres {
    /// Starts one with a database at the newest migration, without rows.
    ///
    /// # Panics
    ///
    /// With the cause, when it does not start.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// As [`PrivatePostgres::start`], with settings such as `("max_connections", "20")`.
    ///
    /// # Panics
    ///
    /// With the cause, when it does not start.
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        let started = Self::start_server(settings);
        unwrap(started.create_database().await);
        started
    }

    /// As [`PrivatePostgres::start`], with the real tokens and liquidity pools.
    ///
    /// # Panics
    ///
    /// With the cause, when it does not start.
    pub async fn start_seeded() -> Self {
        let started = Self::start().await;
        let url = started.url();
        let seeding = forebay_seed::seed(&url, forebay_seed::Existing::Keep, |_| {});
        unwrap(seeding.await.context("seed the private Postgres"));
        started
    }

    /// The URL of the database; it stays the same after a restart.
    pub fn url(&self) -> String {
        self.server.url(DATABASE)
    }

    /// Port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Ends it at once, as a crash would: connections are reset and new ones refused.
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Suspends it with all its backends: connections stay open and nothing answers.
    pub fn stop(&self) {
        self.server.suspend();
    }

    /// Lets it go on after [`PrivatePostgres::stop`].
    pub fn cont(&self) {
        self.server.resume();
    }

    /// Starts it again on the same port with what was committed.
    ///
    /// # Panics
    ///
    /// With the cause, when it does not start.
    pub fn restart(&mut self) {
        super::unwrap(self.server.restart());
    }

    /// Starts it again on the same port as a standby, as one that was demoted: it follows nobody
    /// and takes no writes.
    ///
    /// # Panics
    ///
    /// With the cause, when it does not start.
    pub fn demote(&mut self) {
        let signal = self.dir.data().join("standby.signal");
        std::fs::write(signal, "").expect("its directory takes a file");
        self.restart();
    }

    fn start_server(settings: &[(&str, &str)]) -> Self {
        let libraries = environment::postgres_libraries();
        let tools = match PostgresTools::probe(&environment::postgres_bin(), libraries) {
            Ok(tools) => tools,
            Err(reason) => panic!("FOREBAY_TEST_PG_BIN: {reason}"),
        };
        let dir = PrivateDir::new("postgres");
        let settings = owned(&[&SETTINGS, settings].concat());
        let server = start_on_free_port(|port| {
            let (dir, settings) = (dir.data(), settings.clone());
            Server::start(&tools, Options { dir, port, settings, ..Options::default() })
        });
        Self { server, dir }
    }

    async fn create_database(&self) -> anyhow::Result<()> {
        let admin = Maintenance::connect(&self.server.url("postgres")).await?;
        let statement = format!("CREATE DATABASE {DATABASE}");
        admin.client().batch_execute(&statement).await.context("create the database")?;
        admin.close().await;
        migrate::run(&self.url()).await.context("migrate the private Postgres")?;
        Ok(())
    }
}
