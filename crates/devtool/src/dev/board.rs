//! What the supervisor knows and tells: the state file, the lines on the terminal, the timings.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay_provision::proc_table::Identity;
use forebay_provision::{Output, Stopwatch};
use parking_lot::Mutex;

use super::logfile::LogFile;
use crate::logs::line::{Level, level_of};
use crate::say;
use crate::state::{Group, Health, State};
use crate::workspace::Instance;

/// Shared by everything that the supervisor does at once.
#[derive(Debug)]
pub(crate) struct Board {
    instance: Instance,
    path: PathBuf,
    state: Mutex<State>,
    /// Whether the lines of the processes go to our terminal too.
    follow: bool,
    watch: Stopwatch,
    timings: Mutex<Vec<(String, Duration, Duration)>>,
}

impl Board {
    /// A board for an instance that begins to start.
    pub(crate) fn new(instance: &Instance, follow: bool) -> Arc<Self> {
        let board = Self {
            instance: instance.clone(),
            path: instance.state_file(),
            state: Mutex::new(State::new(instance, Identity::own())),
            follow,
            watch: Stopwatch::start(),
            timings: Mutex::default(),
        };
        board.save(&board.state.lock());
        Arc::new(board)
    }

    /// The instance.
    pub(crate) fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Tells the person in front.
    pub(crate) fn say(&self, text: &str) {
        say::line(&format!("dev: {text}"));
    }

    /// A copy of what is known.
    pub(crate) fn state(&self) -> State {
        self.state.lock().clone()
    }

    /// Changes what is known, and the file when it makes a difference.
    pub(crate) fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        let before = state.clone();
        change(&mut state);
        if *state != before {
            self.save(&state);
        }
    }

    /// Records a process of the instance under `name`, replacing the one before.
    pub(crate) fn add_group(&self, group: Group) {
        self.update(|state| {
            state.groups.retain(|known| known.name != group.name);
            let pid = Some(group.leader.pid);
            match group.name.as_str() {
                "postgres" => state.backends.postgres.pid = pid,
                "redis" => state.backends.redis.pid = pid,
                name => {
                    if let Some(service) = state.service_mut(name) {
                        service.pid = pid;
                    }
                }
            }
            state.groups.push(group);
        });
    }

    /// Records how a service is, unless it was given up.
    pub(crate) fn set_health(&self, name: &str, health: Health) {
        self.update(|state| {
            if let Some(service) = state.service_mut(name)
                && service.state != Health::Failed
            {
                service.state = health;
                if matches!(health, Health::Stopped) {
                    service.pid = None;
                }
            }
        });
    }

    /// Where the lines of a process go: its log, and the terminal when somebody is watching.
    ///
    /// # Errors
    ///
    /// When the log cannot be opened.
    pub(crate) fn output(self: &Arc<Self>, name: &'static str) -> anyhow::Result<Output> {
        let path = self.instance.logs_dir().join(format!("{name}.log"));
        let log = Mutex::new(LogFile::open(path)?);
        let board = Arc::clone(self);
        let is_service = crate::state::SERVICES.contains(&name);
        Ok(Output::Lines(Arc::new(move |line: &str| {
            log.lock().write(line);
            // The stores talk about every checkpoint; only their complaints are for everybody.
            let wanted = is_service || level_of(line).is_some_and(|level| level >= Level::Warn);
            if board.follow && wanted {
                say::line(&crate::logs::line::with_name(name, line));
            }
        })))
    }

    /// Measures `work` under `name`.
    pub(crate) async fn timed<T>(&self, name: &str, work: impl Future<Output = T>) -> T {
        let from = self.watch.elapsed();
        let result = work.await;
        self.timings.lock().push((name.to_owned(), from, self.watch.elapsed()));
        result
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.watch.elapsed()
    }

    /// Where the time went, one line for each part, in the order in which they began.
    pub(crate) fn timings(&self) -> Vec<String> {
        let mut timings = self.timings.lock().clone();
        timings.sort_by_key(|(_, from, _)| *from);
        let line = |(name, from, to): &(String, Duration, Duration)| {
            let took = to.saturating_sub(*from);
            format!(
                "  {name:<22} from {:>7.3} s  to {:>7.3} s  took {:>7.3} s",
                from.as_secs_f64(),
                to.as_secs_f64(),
                took.as_secs_f64()
            )
        };
        timings.iter().map(line).collect()
    }

    fn save(&self, state: &State) {
        if let Err(error) = state.save(&self.path) {
            say::warn(&format!("dev: {error:#}"));
        }
    }
}
