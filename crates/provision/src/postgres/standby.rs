//! A standby: a copy of a running server that follows it.

use std::path::Path;
use std::time::Duration;

use super::cluster::{beside, create_owned, remove_dir};
use super::{Options, PostgresTools, Server, WireError, query};
use crate::identity::RunAs;
use crate::{ProvisionError, START_TIMEOUT, Stopwatch, command, pause};

/// Copies the cluster of the server on `primary` into `dir`, whole or not at all, and leaves in it
/// that a server started there follows.
pub(super) fn copy(
    tools: &PostgresTools,
    primary: u16,
    dir: &Path,
    user: Option<&RunAs>,
) -> Result<(), ProvisionError> {
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent).map_err(ProvisionError::path("create", parent))?;
    }
    let fresh = beside(dir);
    create_owned(&fresh, user)?;
    let mut backup = tools.command("pg_basebackup");
    backup
        .args(["--host=127.0.0.1", "--username=postgres", "--no-password", "--no-sync"])
        .args(["--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf"])
        .arg(format!("--port={primary}"))
        .arg("-D")
        .arg(&fresh)
        .current_dir(&fresh);
    if let Some(user) = user {
        user.apply(&mut backup);
        backup.env("HOME", &fresh);
    }
    let copied = command::run(backup, START_TIMEOUT).map(drop).and_then(|()| {
        std::fs::rename(&fresh, dir).map_err(ProvisionError::path("rename", &fresh))
    });
    if copied.is_err() {
        remove_dir(&fresh)?;
    }
    copied
}

impl Server {
    /// Starts a standby of this server: a copy of it as it is now, which streams what follows and
    /// answers reads. It has the settings of this server (some must not be smaller than here), then
    /// those of `options`; `options.dir` must not hold anything yet.
    ///
    /// # Errors
    ///
    /// As [`Server::start`], and what `pg_basebackup` said when it failed, such as that this server
    /// was started with `wal_level=minimal`.
    pub fn start_standby(&self, options: Options) -> Result<Self, ProvisionError> {
        let settings = self.options.settings.iter().cloned().chain(options.settings).collect();
        let options = Options { settings, ..options };
        Self::start_with(&self.tools, options, |dir, user| {
            copy(&self.tools, self.options.port, dir, user)
        })
    }

    /// Makes a standby a primary, and waits until it takes writes.
    ///
    /// # Errors
    ///
    /// [`ProvisionError::NotReady`] with what it said last.
    pub fn promote(&self) -> Result<(), ProvisionError> {
        self.ask_until("select pg_promote(false)", "select not pg_is_in_recovery()")
    }

    /// Makes a standby receive without replaying: its readers see no newer commit. Waits until it is
    /// so, because the server only notes the wish.
    ///
    /// # Errors
    ///
    /// As [`Server::promote`].
    pub fn pause_replay(&self) -> Result<(), ProvisionError> {
        let is_paused = "select pg_get_wal_replay_pause_state() = 'paused'";
        self.ask_until("select pg_wal_replay_pause()", is_paused)
    }

    /// Lets a standby replay again.
    ///
    /// # Errors
    ///
    /// As [`Server::promote`].
    pub fn resume_replay(&self) -> Result<(), ProvisionError> {
        self.ask_until("select pg_wal_replay_resume()", "select not pg_is_wal_replay_paused()")
    }

    /// Asks for something until it is heard, then whether it is so until it is.
    fn ask_until(&self, wish: &str, is_so: &str) -> Result<(), ProvisionError> {
        const STEP: Duration = Duration::from_millis(10);
        let port = self.options.port;
        let ask = |sql: &str| query(port, "postgres", sql);
        let watch = Stopwatch::start();
        let mut is_asked = false;
        let mut last = String::from("no attempt was made");
        while watch.elapsed() < START_TIMEOUT {
            let answer = if is_asked { ask(is_so) } else { ask(wish) };
            match answer {
                Ok(_) if !is_asked => is_asked = true,
                Ok(rows) if rows.iter().flatten().flatten().eq(["t"]) => return Ok(()),
                Ok(_) => last = format!("{is_so}: not yet"),
                Err(WireError::Server { sqlstate, message }) => {
                    // Such as: it is not a standby.
                    last = format!("{sqlstate} {message}");
                    break;
                }
                Err(error) => last = command::describe(&error),
            }
            pause(STEP);
        }
        let (server, timeout) = ("Postgres", START_TIMEOUT);
        Err(ProvisionError::NotReady { server, port, timeout, last })
    }
}
