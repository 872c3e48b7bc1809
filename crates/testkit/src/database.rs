//! A database of its own for each test.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;
use forebay_postgres::PgPool;
use forebay_postgres::maintenance::Maintenance;

use crate::environment;
use crate::settings::postgres_config;
use crate::sweep;
use crate::template::{self, Template};

/// A database that lives as long as this value.
pub struct TestDatabase {
    name: String,
    url: String,
    server: String,
}

/// A database at the newest migration, without rows.
///
/// # Panics
///
/// With the cause, when the database cannot be made.
pub async fn database() -> TestDatabase {
    unwrap(TestDatabase::cloned(Template::Migrated).await)
}

/// A database at the newest migration with the real tokens and liquidity pools.
///
/// # Panics
///
/// With the cause, when the database cannot be made.
pub async fn seeded_database() -> TestDatabase {
    unwrap(TestDatabase::cloned(Template::Seeded).await)
}

/// A database in which nothing was done yet.
///
/// # Panics
///
/// With the cause, when the database cannot be made.
pub async fn empty_database() -> TestDatabase {
    unwrap(TestDatabase::cloned(Template::Empty).await)
}

impl TestDatabase {
    /// The URL of the database.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection pool of a test's size; every call makes another one.
    ///
    /// # Panics
    ///
    /// When the connection pool cannot be made.
    pub fn pool(&self) -> PgPool {
        unwrap(PgPool::new(&postgres_config(&self.url), "forebay-test").context("make a PgPool"))
    }

    /// One plain connection, for what a connection pool does not offer.
    ///
    /// # Panics
    ///
    /// When the server does not let us in.
    pub async fn connect(&self) -> Maintenance {
        unwrap(Maintenance::connect(&self.url).await.context("connect to the test database"))
    }

    async fn cloned(template: Template) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let server = environment::postgres_url();
        sweep::once(&server).await?;
        let source = template::ensure(&server, template).await?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}{number}", sweep::own_prefix()?);
        let admin = Maintenance::connect(&server).await?;
        admin
            .client()
            .batch_execute(&format!("CREATE DATABASE \"{name}\" TEMPLATE \"{source}\""))
            .await
            .with_context(|| format!("clone the template {source}"))?;
        admin.close().await;
        Ok(Self { url: with_database(&server, &name)?, name, server })
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // Dropping cannot wait on the test's runtime, so a thread with a
        // runtime of its own does.
        let dropping = std::thread::spawn(move || -> anyhow::Result<()> {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
                let admin = Maintenance::connect(&server).await?;
                admin.client().batch_execute(&drop_statement(&name)).await?;
                Ok(())
            })
        });
        match dropping.join() {
            Ok(Ok(())) => {}
            // A test that kills its Postgres meets this; the sweep of a later
            // process makes up for it, and a panic here would hide the test's own.
            Ok(Err(error)) => report(&self.name, &format!("{error:#}")),
            Err(_panic) => report(&self.name, "the dropping thread panicked"),
        }
    }
}

impl fmt::Debug for TestDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestDatabase").field("name", &self.name).finish_non_exhaustive()
    }
}

/// `FORCE` ends the connections that a test has left open.
pub(crate) fn drop_statement(name: &str) -> String {
    format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)")
}

/// The URL of another database on the same server.
pub(crate) fn with_database(url: &str, name: &str) -> anyhow::Result<String> {
    let mut url = url::Url::parse(url).context("read FOREBAY_TEST_POSTGRES_URL")?;
    url.set_path(name);
    Ok(url.into())
}

pub(crate) fn unwrap<T>(result: anyhow::Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error:#}"),
    }
}

#[expect(clippy::print_stderr, reason = "a test's captured output is the only place to say it")]
fn report(name: &str, cause: &str) {
    eprintln!("test database {name} stays behind: {cause}");
}
