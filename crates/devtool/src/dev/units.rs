//! The processes of an instance, in the one form in which they are kept running and stopped.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay_provision::{Output, Process, StopSignal, Stopped, postgres, redis, wait_until};

use super::board::Board;
use crate::state::Group;

/// How long a process may take to stop when nobody hurries.
const GRACE: Duration = Duration::from_secs(15);

/// How long it may take after a second Ctrl-C.
const GRACE_HURRIED: Duration = Duration::from_millis(500);

/// A process that is started, watched, started again and stopped. All methods may block.
pub(crate) trait Unit: Send + 'static {
    /// Its name in tables and logs.
    fn name(&self) -> &'static str;

    /// The process, once it was started.
    fn process(&self) -> Option<&Process>;

    /// Starts it, or starts it again.
    fn launch(&mut self) -> anyhow::Result<()>;

    /// Asks it to stop, waits, and kills it if it must; `hurry` shortens the wait.
    fn stop(&self, hurry: &AtomicBool) -> Stopped {
        match self.process() {
            Some(process) => stop(process, hurry),
            None => Stopped::AlreadyGone,
        }
    }

    /// What a later supervisor must end if this one is killed.
    fn group(&self) -> Option<Group>;
}

/// Postgres.
#[derive(Debug)]
pub(crate) struct PostgresUnit(pub(crate) postgres::Server);

impl Unit for PostgresUnit {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn process(&self) -> Option<&Process> {
        Some(self.0.process())
    }

    fn launch(&mut self) -> anyhow::Result<()> {
        Ok(self.0.restart()?)
    }

    fn group(&self) -> Option<Group> {
        Some(Group {
            name: self.name().to_owned(),
            leader: self.0.process().identity().into(),
            interrupt: true,
            dir: Some(self.0.dir().to_path_buf()),
        })
    }
}

/// Redis.
#[derive(Debug)]
pub(crate) struct RedisUnit(pub(crate) redis::Server);

impl Unit for RedisUnit {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn process(&self) -> Option<&Process> {
        Some(self.0.process())
    }

    fn launch(&mut self) -> anyhow::Result<()> {
        Ok(self.0.restart()?)
    }

    fn group(&self) -> Option<Group> {
        Some(Group {
            name: self.name().to_owned(),
            leader: self.0.process().identity().into(),
            interrupt: false,
            dir: Some(self.0.dir().to_path_buf()),
        })
    }
}

/// A program that needs nothing but its environment: a service, or Jaeger.
#[derive(Debug)]
pub(crate) struct ProgramUnit {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) output: Output,
    pub(crate) process: Option<Process>,
}

impl Unit for ProgramUnit {
    fn name(&self) -> &'static str {
        self.name
    }

    fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    fn launch(&mut self) -> anyhow::Result<()> {
        // The old one first: it may still hold the ports.
        self.process = None;
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        let process = Process::spawn(command, StopSignal::Terminate, &self.output, None)?;
        self.process = Some(process);
        Ok(())
    }

    fn group(&self) -> Option<Group> {
        let leader = self.process.as_ref()?.identity().into();
        Some(Group { name: self.name.to_owned(), leader, interrupt: false, dir: None })
    }
}

/// Tells the board about a unit that was just launched.
pub(crate) fn record(board: &Arc<Board>, unit: &dyn Unit) {
    if let Some(group) = unit.group() {
        board.add_group(group);
    }
}

fn stop(process: &Process, hurry: &AtomicBool) -> Stopped {
    const STEP: Duration = Duration::from_millis(20);
    if !process.is_running() {
        return Stopped::AlreadyGone;
    }
    process.ask_to_stop();
    let ended = wait_until(GRACE, STEP, || {
        (!process.is_running() || hurry.load(Ordering::Relaxed)).then_some(())
    });
    if process.is_running() && ended.is_some() && process.wait(GRACE_HURRIED).is_some() {
        return Stopped::Gracefully;
    }
    if process.is_running() {
        process.kill();
        return Stopped::Killed;
    }
    Stopped::Gracefully
}
