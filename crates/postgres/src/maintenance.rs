//! One plain connection for tools: migrations, bulk loads, whole databases.
//!
//! Services use `PgPool`. A tool needs what a connection pool must not offer:
//! session locks, `COPY`, settings of its own, statements without a timeout.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use forebay_config::{PostgresBudgetConfig, PostgresConfig, PostgresMode, Secret};
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};

use crate::PgError;
use crate::lifecycle::connector::Connector;
use crate::wire::statements::custom_types;

/// How long a connection attempt may take, TLS and authentication included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// One connection; dropping it closes the connection.
pub struct Maintenance {
    client: Client,
    driver: JoinHandle<()>,
}

impl Maintenance {
    /// Connects to the database that `url` names, with the same rules for TLS as `PgPool`.
    ///
    /// # Errors
    ///
    /// When the URL is wrong, or the server does not let us in within [`CONNECT_TIMEOUT`].
    pub async fn connect(url: &str) -> Result<Self, PgError> {
        let config = PostgresConfig {
            url: Secret::new(url),
            replica_urls: Vec::new(),
            mode: PostgresMode::Auto,
            instance: String::new(),
            connections_max: 1,
            connections_min: 0,
            waiting_max: 0,
            acquire_timeout: CONNECT_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            // Zero means without end: building an index takes as long as it takes.
            statement_timeout: Duration::ZERO,
            idle_in_transaction_timeout: Duration::ZERO,
            lock_timeout: Duration::ZERO,
            lifetime_max: Duration::MAX,
            idle_timeout: Duration::MAX,
            leak_after: Duration::MAX,
            outage_grace: Duration::ZERO,
            regrow_interval: Duration::MAX,
            pooler_connections_max: 1,
            pooler_clients_max: 1,
            budget: PostgresBudgetConfig { share: 1.0, reserved: 0, services: Vec::new() },
        };
        let opened = Connector::new(&config, "forebay-maintenance")?.open().await?;
        Ok(Self { client: opened.client, driver: opened.driver })
    }

    /// The driver's client, for statements.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The driver's client, for transactions.
    pub fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    /// The parameters and columns of a statement whose type is not built in, in words. Behind a
    /// transaction pooler such a statement is refused ([`PgError::CustomType`]).
    ///
    /// # Errors
    ///
    /// When the server does not take the statement.
    pub async fn custom_types(&self, statement: &str) -> Result<Vec<String>, PgError> {
        let prepared = self.client.prepare(statement).await?;
        let found = custom_types(&prepared);
        Ok(found.map(|(place, name)| format!("a {place} of type {name}")).collect())
    }

    /// Loads rows with `COPY .. FROM STDIN (FORMAT binary)`; returns how many.
    ///
    /// `types` are the types of the columns that `statement` names.
    ///
    /// # Errors
    ///
    /// What the server says; no row is loaded then.
    pub async fn copy<'r, const COLUMNS: usize>(
        &self,
        statement: &str,
        types: &[Type; COLUMNS],
        rows: impl IntoIterator<Item = [&'r (dyn ToSql + Sync); COLUMNS]>,
    ) -> Result<u64, tokio_postgres::Error> {
        let sink = self.client.copy_in(statement).await?;
        let mut writer = pin!(BinaryCopyInWriter::new(sink, types));
        for row in rows {
            writer.as_mut().write(&row).await?;
        }
        writer.finish().await
    }

    /// Closes the connection and waits until it is closed, so that the database
    /// can be dropped or cloned right after.
    pub async fn close(self) {
        let Self { client, driver } = self;
        drop(client);
        // A driver that panicked has closed the connection as well.
        let _ended = driver.await;
    }
}

impl fmt::Debug for Maintenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maintenance")
            .field("closed", &self.client.is_closed())
            .finish_non_exhaustive()
    }
}
