//! A Postgres and a Redis that exist for one run of a command, and leave nothing behind.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use forebay_provision::{
    Output, Program, ProvisionError, Search, Stopwatch, guard, identity, pgbouncer, ports,
    postgres, redis,
};

use crate::{cargo, say};

/// The folder of everything that a run writes, removed at its end.
pub(crate) struct Dir(PathBuf);

impl Dir {
    /// Creates the folder where the user that runs Postgres can reach it.
    ///
    /// # Errors
    ///
    /// When there is no such place.
    pub(crate) fn create() -> anyhow::Result<Self> {
        let name = format!("forebay-test-{}", std::process::id());
        let user = identity::RunAs::for_servers();
        // Postgres may run as another user, who must be able to get there.
        let base = [std::env::temp_dir(), PathBuf::from("/tmp"), PathBuf::from("/var/tmp")]
            .into_iter()
            .find(|dir| dir.is_dir() && user.as_ref().is_none_or(|user| user.reaches(dir)))
            .context("no temporary directory that Postgres can reach")?;
        let dir = base.join(name);
        std::fs::create_dir(&dir).with_context(|| format!("create {}", dir.display()))?;
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&dir, open)
            .with_context(|| format!("open up {}", dir.display()))?;
        guard::add_dir(&dir);
        Ok(Self(dir))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // The guard may have been faster.
        if let Err(error) = std::fs::remove_dir_all(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            say::warn(&format!("servers: remove {}: {error}", self.0.display()));
        }
    }
}

/// The log of the Postgres, in the folder of the run.
const POSTGRES_LOG: &str = "postgres.log";

/// A Postgres and a Redis of their own.
pub(crate) struct Backends {
    dir: PathBuf,
    postgres: postgres::Server,
    postgres_tools: postgres::PostgresTools,
    redis: redis::Server,
    redis_tools: redis::RedisTools,
}

impl Backends {
    /// Finds and starts both, below `dir`.
    ///
    /// # Errors
    ///
    /// When one cannot be found or started; the error says what would help.
    pub(crate) fn start(dir: &Path) -> anyhow::Result<Self> {
        let watch = Stopwatch::start();
        let found = redis::find(&search("REDIS"))?;
        let redis_tools = found.tool;
        let redis = on_free_port(|port| {
            let options = redis::Options { dir: dir.join("redis"), port, ..Default::default() };
            redis::Server::start(&redis_tools, options)
        })?;
        let found = postgres::find(&search("PG"))?;
        let postgres_tools = found.tool;
        // A test run that dies leaves nothing worth recovering.
        let settings = [
            ("fsync", "off"),
            ("synchronous_commit", "off"),
            ("full_page_writes", "off"),
            ("max_connections", "300"),
            ("jit", "off"),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let postgres = on_free_port(|port| {
            let options = postgres::Options {
                dir: dir.join("postgres"),
                port,
                settings: settings.clone(),
                output: Output::File(dir.join(POSTGRES_LOG)),
            };
            postgres::Server::start(&postgres_tools, options)
        })?;
        say::warn(&format!(
            "servers: Postgres {} and {} up in {}",
            postgres_tools.version,
            redis_tools.version,
            say::time(watch.elapsed())
        ));
        let dir = dir.to_path_buf();
        Ok(Self { dir, postgres, postgres_tools, redis, redis_tools })
    }

    /// The maintenance database of the Postgres.
    pub(crate) fn postgres_url(&self) -> String {
        self.postgres.url("postgres")
    }

    /// What the Postgres says.
    pub(crate) fn postgres_log(&self) -> PathBuf {
        self.dir.join(POSTGRES_LOG)
    }

    /// Where the Redis is.
    pub(crate) fn redis_url(&self) -> String {
        self.redis.url()
    }

    /// The programs of the Postgres.
    pub(crate) fn postgres_tools(&self) -> &postgres::PostgresTools {
        &self.postgres_tools
    }

    /// The programs of the Redis.
    pub(crate) fn redis_tools(&self) -> &redis::RedisTools {
        &self.redis_tools
    }

    /// What the tests read; `testkit` says what each is for.
    ///
    /// # Errors
    ///
    /// When a wrapper cannot be written.
    pub(crate) fn environment(
        &self,
        program: &Path,
        pgbouncer: &pgbouncer::PgBouncerTools,
    ) -> anyhow::Result<Vec<(&'static str, OsString)>> {
        let redis_server = wrapper(&self.dir, "redis-server", &self.redis_tools.program())?;
        let pgbouncer = wrapper(&self.dir, "pgbouncer", &pgbouncer.program)?;
        Ok(vec![
            ("FOREBAY_TEST_POSTGRES_URL", self.postgres.url("postgres").into()),
            ("FOREBAY_TEST_REDIS_URL", self.redis.url().into()),
            ("FOREBAY_TEST_PG_BIN", self.postgres_tools.bin.clone().into()),
            (
                "FOREBAY_TEST_PG_LIBRARIES",
                self.postgres_tools.libraries.clone().unwrap_or_default(),
            ),
            ("FOREBAY_TEST_REDIS_SERVER", redis_server),
            ("FOREBAY_TEST_PGBOUNCER", pgbouncer),
            ("FOREBAY_TEST_BIN_DIR", cargo::bin_dir()?.into()),
            ("FOREBAY_TEST_DIR", self.dir.clone().into()),
            (guard::PROGRAM_ENV, program.into()),
        ])
    }

    /// The load generators that came with the servers, for a bench to compare with: `REDIS_BENCHMARK`
    /// and `PGBENCH`, each absent when the package of the server did not hold it.
    ///
    /// # Errors
    ///
    /// When a wrapper cannot be written.
    pub(crate) fn load_generators(&self) -> anyhow::Result<Vec<(&'static str, OsString)>> {
        let redis = self.redis_tools.benchmark(&search("REDIS"));
        let found = [
            ("REDIS_BENCHMARK", "redis-benchmark", redis),
            ("PGBENCH", "pgbench", self.postgres_tools.program("pgbench")),
        ];
        let found = found.into_iter().filter_map(|(name, file, tool)| Some((name, file, tool?)));
        found.map(|(name, file, tool)| Ok((name, wrapper(&self.dir, file, &tool)?))).collect()
    }

    /// Nothing here is kept, so nobody waits for a checkpoint.
    pub(crate) fn stop(self) {
        self.redis.kill();
        drop(self.postgres);
    }
}

/// A pgbouncer, which tests start before a Postgres.
///
/// # Errors
///
/// When there is none; the error says what would help.
pub(crate) fn find_pgbouncer() -> anyhow::Result<pgbouncer::PgBouncerTools> {
    Ok(pgbouncer::find(&search("PGBOUNCER"))?.tool)
}

fn search(name: &str) -> Search {
    Search::from_env(name).with_progress(|line| say::warn(&format!("servers: {line}")))
}

/// A script in `dir` that runs a tool with the libraries it needs.
fn wrapper(dir: &Path, name: &str, tool: &Program) -> anyhow::Result<OsString> {
    let path = dir.join(name);
    tool.write_wrapper(&path).with_context(|| format!("write the wrapper of {name}"))?;
    Ok(path.into())
}

/// A free port may be taken by somebody else before it is used; then another one is tried.
fn on_free_port<T>(start: impl Fn(u16) -> Result<T, ProvisionError>) -> anyhow::Result<T> {
    const ATTEMPTS: usize = 5;
    for _ in 1..ATTEMPTS {
        match start(ports::choose(&[], &[]).context("no free port")?) {
            Err(ProvisionError::PortTaken { .. }) => {}
            started => return Ok(started?),
        }
    }
    Ok(start(ports::choose(&[], &[]).context("no free port")?)?)
}
