//! A Postgres and a Redis that exist for one run of a command, and leave nothing behind.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use forebay_provision::{
    Output, ProvisionError, Search, Stopwatch, guard, identity, ports, postgres, redis,
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

/// A Postgres and a Redis of their own.
pub(crate) struct Backends {
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
        let progress = |line: &str| say::warn(&format!("servers: {line}"));
        let found = redis::find(&Search::from_env("REDIS").with_progress(progress))?;
        let redis_tools = found.tool;
        let redis = on_free_port(|port| {
            let options = redis::Options { dir: dir.join("redis"), port, ..Default::default() };
            redis::Server::start(&redis_tools, options)
        })?;
        let found = postgres::find(&Search::from_env("PG").with_progress(progress))?;
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
                output: Output::File(dir.join("postgres.log")),
            };
            postgres::Server::start(&postgres_tools, options)
        })?;
        say::warn(&format!(
            "servers: Postgres {} and {} up in {}",
            postgres_tools.version,
            redis_tools.version,
            say::time(watch.elapsed())
        ));
        Ok(Self { postgres, postgres_tools, redis, redis_tools })
    }

    /// The maintenance database of the Postgres.
    pub(crate) fn postgres_url(&self) -> String {
        self.postgres.url("postgres")
    }

    /// Where the Redis is.
    pub(crate) fn redis_url(&self) -> String {
        self.redis.url()
    }

    /// What the tests read; `testkit` says what each is for.
    pub(crate) fn environment(
        &self,
        dir: &Path,
        program: &Path,
    ) -> anyhow::Result<Vec<(&'static str, OsString)>> {
        let wrapper = dir.join("redis-server");
        self.redis_tools.write_wrapper(&wrapper).context("write the wrapper of redis-server")?;
        Ok(vec![
            ("FOREBAY_TEST_POSTGRES_URL", self.postgres.url("postgres").into()),
            ("FOREBAY_TEST_REDIS_URL", self.redis.url().into()),
            ("FOREBAY_TEST_PG_BIN", self.postgres_tools.bin.clone().into()),
            (
                "FOREBAY_TEST_PG_LIBRARIES",
                self.postgres_tools.libraries.clone().unwrap_or_default(),
            ),
            ("FOREBAY_TEST_REDIS_SERVER", wrapper.into()),
            ("FOREBAY_TEST_BIN_DIR", cargo::bin_dir()?.into()),
            ("FOREBAY_TEST_DIR", dir.into()),
            (guard::PROGRAM_ENV, program.into()),
        ])
    }

    /// Nothing here is kept, so nobody waits for a checkpoint.
    pub(crate) fn stop(self) {
        self.redis.kill();
        drop(self.postgres);
    }
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
