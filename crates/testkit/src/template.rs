//! Templates: databases that are migrated once and cloned for each test.

use anyhow::Context as _;
use forebay_postgres::maintenance::Maintenance;
use forebay_postgres::migrate;

use crate::database::{drop_statement, with_database};

/// Templates kept on one server: enough for a few checkouts that differ in their migrations.
const TEMPLATES_KEPT: i64 = 8;

/// What a test database starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Template {
    /// Nothing.
    Empty,
    /// The newest migration.
    Migrated,
    /// The newest migration and the real rows.
    Seeded,
}

/// The name of the template, which exists afterwards.
pub(crate) async fn ensure(server: &str, template: Template) -> anyhow::Result<String> {
    let name = match template {
        Template::Empty => return Ok("template0".to_owned()),
        // The name holds what the template was made of, so that a changed
        // migration never meets yesterday's schema.
        Template::Migrated => format!("forebay_template_{:016x}", migrate::fingerprint()),
        Template::Seeded => format!(
            "forebay_seeded_{:016x}_{:016x}",
            migrate::fingerprint(),
            forebay_seed::fingerprint()
        ),
    };
    let admin = Maintenance::connect(server).await?;
    if !exists(&admin, &name).await? {
        // Many test processes start at once and all find the template missing:
        // one makes it, the others wait. The session's end releases the lock.
        admin
            .client()
            .batch_execute("SELECT pg_advisory_lock(hashtextextended('forebay test templates', 0))")
            .await
            .context("lock the templates")?;
        if !exists(&admin, &name).await? {
            make(&admin, server, template, &name).await?;
        }
    }
    admin.close().await;
    Ok(name)
}

/// Makes the template under another name first: a name that exists is complete.
async fn make(
    admin: &Maintenance,
    server: &str,
    template: Template,
    name: &str,
) -> anyhow::Result<()> {
    let unfinished = format!("{name}_unfinished");
    let statement = |text: String| async move {
        admin.client().batch_execute(&text).await.with_context(|| text.clone())
    };
    statement(drop_statement(&unfinished)).await?;
    statement(format!("CREATE DATABASE \"{unfinished}\" TEMPLATE template0 ENCODING 'UTF8'"))
        .await?;
    let url = with_database(server, &unfinished)?;
    migrate::run(&url).await.context("migrate the template")?;
    if template == Template::Seeded {
        forebay_seed::seed(&url, forebay_seed::Existing::Keep, |_| {})
            .await
            .context("seed the template")?;
    }
    // A connection to a template would make every clone of it fail.
    statement(format!("ALTER DATABASE \"{unfinished}\" ALLOW_CONNECTIONS false")).await?;
    statement(format!("ALTER DATABASE \"{unfinished}\" RENAME TO \"{name}\"")).await?;
    drop_old(admin).await
}

/// Drops all but the newest templates, which the edits of a migration leave behind.
async fn drop_old(admin: &Maintenance) -> anyhow::Result<()> {
    let old = admin
        .client()
        .query(
            "SELECT datname FROM pg_database WHERE datname ~ '^forebay_(template|seeded)_[0-9a-f_]+$' \
             ORDER BY oid DESC OFFSET $1",
            &[&TEMPLATES_KEPT],
        )
        .await
        .context("list the templates")?;
    for row in old {
        admin
            .client()
            .batch_execute(&drop_statement(row.get(0)))
            .await
            .context("drop a template")?;
    }
    Ok(())
}

async fn exists(admin: &Maintenance, name: &str) -> anyhow::Result<bool> {
    let row = admin
        .client()
        .query_one("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", &[&name])
        .await
        .context("look for the template")?;
    Ok(row.get(0))
}
