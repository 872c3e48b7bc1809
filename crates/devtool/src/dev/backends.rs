//! Postgres and Redis of an instance: the ones named in the environment, else our own.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use forebay_provision::{ProvisionError, Rung, Search, Skipped, postgres, redis};
use parking_lot::Mutex;

use super::board::Board;
use super::plan::Plan;
use super::schema::DATABASE;
use super::units::{PostgresUnit, RedisUnit, Unit};
use super::{probe, schema};
use crate::state::{Backend, ENVIRONMENT, State, redacted};

/// Attempts to start a server on a port that somebody else may take first.
const ATTEMPTS: usize = 5;

/// A store that is up.
pub(crate) struct Up {
    /// Its URL.
    pub(crate) url: String,
    /// The process to keep, when it is ours.
    pub(crate) unit: Option<Box<dyn Unit>>,
}

/// Provides Postgres with an empty or known database. Blocks while a server is fetched or started,
/// so that part runs on a thread of its own.
///
/// # Errors
///
/// Naming what to do about it.
pub(crate) async fn postgres(
    board: &Arc<Board>,
    plan: &Arc<Mutex<Plan>>,
    last: Option<&State>,
) -> anyhow::Result<Up> {
    let own = last.and_then(|last| last.backends.postgres.own());
    if let Some(url) = from_env("DATABASE_URL", own) {
        reachable("DATABASE_URL", &url, 5432).await?;
        note(board, |state| &mut state.backends.postgres, &url, ENVIRONMENT);
        return Ok(Up { url, unit: None });
    }
    let (board, plan) = (Arc::clone(board), Arc::clone(plan));
    tokio::task::spawn_blocking(move || start_postgres(&board, &plan))
        .await
        .context("start Postgres")?
}

/// Provides Redis, in the same way.
///
/// # Errors
///
/// Naming what to do about it.
pub(crate) async fn redis(
    board: &Arc<Board>,
    plan: &Arc<Mutex<Plan>>,
    last: Option<&State>,
) -> anyhow::Result<Up> {
    let own = last.and_then(|last| last.backends.redis.own());
    if let Some(url) = from_env("REDIS_URL", own) {
        reachable("REDIS_URL", &url, 6379).await?;
        note(board, |state| &mut state.backends.redis, &url, ENVIRONMENT);
        return Ok(Up { url, unit: None });
    }
    let (board, plan) = (Arc::clone(board), Arc::clone(plan));
    tokio::task::spawn_blocking(move || start_redis(&board, &plan)).await.context("start Redis")?
}

/// Migrates and seeds.
///
/// # Errors
///
/// What the migration or the seeding says.
pub(crate) async fn prepare(board: &Arc<Board>, url: &str) -> anyhow::Result<()> {
    board.timed("migrate", schema::migrate(url, board)).await?;
    board.timed("seed", schema::seed_once(url, board)).await
}

fn start_postgres(board: &Arc<Board>, plan: &Mutex<Plan>) -> anyhow::Result<Up> {
    let search = Search::from_env("PG").with_progress(sayer(board, "postgres"));
    let found = postgres::find(&search)?;
    tell_passed_over(board, "postgres", &found.skipped);
    let tools = found.tool;
    // The version is in the name: another one cannot read the data and starts with its own.
    let preferred = board.instance().dir.join(format!("postgres-{}", tools.major));
    let dir = postgres::data_dir(&preferred)?;
    // A development database may lose its last second in a power cut, and is quicker for it.
    let settings = [("synchronous_commit", "off"), ("max_connections", "200"), ("jit", "off")];
    let settings: Vec<(String, String)> =
        settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let output = board.output("postgres")?;
    for _ in 0..ATTEMPTS {
        let options = postgres::Options {
            dir: dir.clone(),
            port: plan.lock().postgres()?,
            settings: settings.clone(),
            output: output.clone(),
        };
        let server = match postgres::Server::start(&tools, options) {
            Err(ProvisionError::PortTaken { .. }) => continue,
            started => started?,
        };
        create_database(server.port())?;
        let url = server.url(DATABASE);
        note(board, |state| &mut state.backends.postgres, &url, found.rung.name());
        return Ok(Up { url, unit: Some(Box::new(PostgresUnit(server))) });
    }
    bail!("every port for Postgres was taken by somebody else")
}

fn create_database(port: u16) -> anyhow::Result<()> {
    let exists = format!("select 1 from pg_database where datname = '{DATABASE}'");
    if postgres::query(port, "postgres", &exists)?.is_empty() {
        postgres::query(port, "postgres", &format!("create database {DATABASE}"))?;
    }
    Ok(())
}

fn start_redis(board: &Arc<Board>, plan: &Mutex<Plan>) -> anyhow::Result<Up> {
    let search = Search::from_env("REDIS").with_progress(sayer(board, "redis"));
    let found = redis::find(&search)?;
    tell_passed_over(board, "redis", &found.skipped);
    let output = board.output("redis")?;
    for _ in 0..ATTEMPTS {
        let options = redis::Options {
            dir: board.instance().dir.join("redis"),
            port: plan.lock().redis()?,
            // A resumed instance finds its cache as it was.
            settings: vec![("appendonly".to_owned(), "yes".to_owned())],
            output: output.clone(),
        };
        let server = match redis::Server::start(&found.tool, options) {
            Err(ProvisionError::PortTaken { .. }) => continue,
            started => started?,
        };
        let url = server.url();
        note(board, |state| &mut state.backends.redis, &url, found.rung.name());
        return Ok(Up { url, unit: Some(Box::new(RedisUnit(server))) });
    }
    bail!("every port for Redis was taken by somebody else")
}

/// A download that failed is worth a line; that nothing is installed is what a bare machine is like,
/// and for `cargo xtask doctor` to tell.
fn tell_passed_over(board: &Board, name: &str, skipped: &[Skipped]) {
    for skipped in skipped.iter().filter(|skipped| skipped.rung == Rung::Apt) {
        board.say(&format!("{name}: {} did not do: {}", skipped.rung, skipped.reason));
    }
}

fn sayer(board: &Arc<Board>, name: &'static str) -> impl Fn(&str) + Send + Sync + use<> {
    let board = Arc::clone(board);
    move |line: &str| board.say(&format!("{name}: {line}"))
}

fn note(board: &Board, backend: fn(&mut State) -> &mut Backend, url: &str, source: &str) {
    board.update(|state| {
        let backend = backend(state);
        backend.url = Some(url.to_owned());
        backend.source = Some(source.to_owned());
    });
}

/// A URL that the user has set. That of a server of ours in the last run, which `cargo xtask env`
/// may have put into the environment, is not meant.
fn from_env(name: &str, own: Option<&str>) -> Option<String> {
    std::env::var(name).ok().filter(|url| !url.is_empty() && Some(url.as_str()) != own)
}

async fn reachable(name: &str, url: &str, default_port: u16) -> anyhow::Result<()> {
    let address = authority(url, default_port)
        .with_context(|| format!("{name} is not a URL: {}", redacted(url)))?;
    probe::accepts(&address)
        .await
        .with_context(|| format!("{name} is set to {}: correct or unset it", redacted(url)))
}

/// `host:port` of a URL.
fn authority(url: &str, default_port: u16) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if host.is_empty() {
        return None;
    }
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Some(if has_port { host.to_owned() } else { format!("{host}:{default_port}") })
}

#[cfg(test)]
mod tests {
    use super::authority;

    #[test]
    fn addresses_are_read_from_urls() {
        let cases = [
            ("postgres://u:p@h:1/d", Some("h:1")),
            ("postgres://u:p@h/d?x=y", Some("h:5432")),
            ("redis://h", Some("h:5432")),
            ("redis://[::1]:7", Some("[::1]:7")),
            ("h:1", None),
            ("postgres:///d", None),
        ];
        for (url, expected) in cases {
            assert_eq!(authority(url, 5432).as_deref(), expected, "{url}");
        }
    }
}
