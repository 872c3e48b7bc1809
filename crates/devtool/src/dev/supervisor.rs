//! Brings an instance up in order, keeps it up, and takes it down in the other order.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, bail};
use forebay_provision::{Stopped, guard, identity};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::board::Board;
use super::build::{self, Programs};
use super::keeper::Keeper;
use super::plan::Plan;
use super::services::{self, Surroundings};
use super::units::Unit;
use super::{Options, backends, stale, table, traces};
use crate::signals::Interrupts;
use crate::state::{Health, Phase, SERVICES, State};
use crate::workspace::{Instance, Workspace};
use crate::{cargo, say};

/// How the last line of a start ends; `dev --detach` waits for it.
pub(crate) const LAST_WORDS: &str = "after the build";

/// Everything that was started and has to be ended.
struct Running {
    board: Arc<Board>,
    hurry: Arc<AtomicBool>,
    /// In the order in which they were started.
    keepers: Vec<Keeper>,
    receiver: Option<crate::trace::receiver::Receiver>,
    /// Tasks that only look.
    watches: JoinSet<()>,
}

/// Runs an instance until it is asked to stop.
///
/// # Errors
///
/// When it does not come up; whatever was started is ended again before.
pub(crate) async fn run(
    workspace: &Workspace,
    instance: &Instance,
    options: &Options,
) -> anyhow::Result<ExitCode> {
    let mut interrupts = Interrupts::install().context("listen for signals")?;
    let Some(_lock) = stale::lock_to_keep(instance)? else {
        bail!("instance {} is being started by somebody else", instance.name);
    };
    let last = take_over(instance, options).await?;
    guard::install(&cargo::own_program()?).context("start the guard")?;
    let board = Board::new(instance, !options.supervise);
    board.update(|state| state.guard = guard::identity().map(Into::into));
    let mut running = Running {
        board: Arc::clone(&board),
        hurry: Arc::default(),
        keepers: Vec::new(),
        receiver: None,
        watches: JoinSet::new(),
    };
    let up = tokio::select! {
        up = running.bring_up(workspace, options, last) => Some(up),
        () = interrupts.at_least(1) => None,
    };
    let result = match up {
        None => Ok(()),
        Some(Err(error)) => {
            board.say(&format!("{error:#}"));
            board.update(|state| state.failure = Some(format!("{error:#}")));
            Err(())
        }
        Some(Ok(())) => {
            interrupts.at_least(1).await;
            Ok(())
        }
    };
    if result.is_ok() {
        board.say("stopping; once more to hurry");
    }
    board.update(|state| state.phase = Phase::Stopping);
    let hurry = Arc::clone(&running.hurry);
    tokio::select! {
        () = running.take_down() => {}
        () = async {
            interrupts.at_least(2).await;
            board.say("hurrying");
            hurry.store(true, Ordering::Relaxed);
            std::future::pending::<()>().await;
        } => {}
    }
    let failed = result.is_err();
    board.update(|state| {
        state.put_down();
        state.phase = if failed { Phase::Failed } else { Phase::Stopped };
    });
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Ends what a killed supervisor left, and reads which ports it used.
async fn take_over(instance: &Instance, options: &Options) -> anyhow::Result<Option<State>> {
    let last = State::load(instance)?;
    if let Some(state) = last.clone() {
        let left = tokio::task::spawn_blocking(move || stale::clear(&state)).await;
        let left = left.context("end what the last supervisor left")?;
        if !left.is_empty() {
            say::line(&format!("dev: ended what a killed supervisor left: {}", left.join(", ")));
        }
    }
    if options.fresh {
        remove_data(instance)?;
    }
    Ok(last)
}

fn remove_data(instance: &Instance) -> anyhow::Result<()> {
    let mut paths = vec![instance.traces_dir(), instance.dir.join("redis")];
    for entry in std::fs::read_dir(&instance.dir).context("look for old data")? {
        let path = entry.context("look for old data")?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("postgres-") {
            paths.push(path);
        }
    }
    paths.push(identity::substitute(&instance.dir.join("postgres")));
    for path in paths.iter().filter(|path| path.is_dir()) {
        std::fs::remove_dir_all(path).with_context(|| format!("remove {}", path.display()))?;
    }
    let mark = instance.dir.join("seeded");
    if mark.exists() {
        std::fs::remove_file(&mark).with_context(|| format!("remove {}", mark.display()))?;
    }
    Ok(())
}

impl Running {
    async fn bring_up(
        &mut self,
        workspace: &Workspace,
        options: &Options,
        last: Option<State>,
    ) -> anyhow::Result<()> {
        let board = Arc::clone(&self.board);
        board.say(&format!("starting instance {}", board.instance().name));
        let plan = Arc::new(Mutex::new(Plan::new(last.clone())));
        let build = board.timed("build", build::build(workspace, &board, options.release));
        let stores = self.bring_up_stores(&plan, last.as_ref());
        let (programs, surroundings) = tokio::try_join!(build, stores)?;
        let built = board.elapsed();
        self.bring_up_services(&programs, &surroundings, &plan).await?;
        board.update(|state| state.phase = Phase::Ready);
        let after_build = board.elapsed().saturating_sub(built);
        let moved = plan.lock().moved().to_vec();
        table::lines(&board.state(), &moved).iter().for_each(|line| say::line(line));
        if options.timings {
            board.timings().iter().for_each(|line| say::line(line));
        }
        board.say(&format!(
            "ready in {}, {} {LAST_WORDS}",
            say::time(board.elapsed()),
            say::time(after_build)
        ));
        Ok(())
    }

    async fn bring_up_stores(
        &mut self,
        plan: &Arc<Mutex<Plan>>,
        last: Option<&State>,
    ) -> anyhow::Result<Surroundings> {
        let board = Arc::clone(&self.board);
        let (postgres, redis, traces) = tokio::join!(
            board.timed("postgres", backends::postgres(&board, plan, last)),
            board.timed("redis", backends::redis(&board, plan, last)),
            board.timed("traces", traces::start(&board, plan, last)),
        );
        // Each that came up is kept before the failure of another is looked at.
        let mut failures = Vec::new();
        let mut surroundings = Surroundings {
            postgres: String::new(),
            redis: String::new(),
            traces: String::new(),
            page_token_key: page_token_key(board.instance())?,
        };
        match traces {
            Ok(up) => {
                surroundings.traces = up.endpoint;
                self.receiver = up.receiver;
                self.keep(up.unit);
            }
            Err(error) => failures.push(error),
        }
        for (up, url) in [(postgres, &mut surroundings.postgres), (redis, &mut surroundings.redis)]
        {
            match up {
                Ok(up) => {
                    *url = up.url;
                    self.keep(up.unit);
                }
                Err(error) => failures.push(error),
            }
        }
        if !failures.is_empty() {
            let texts: Vec<String> = failures.iter().map(|error| format!("{error:#}")).collect();
            bail!("{}", texts.join("\n     "));
        }
        backends::prepare(&board, &surroundings.postgres).await?;
        Ok(surroundings)
    }

    async fn bring_up_services(
        &mut self,
        programs: &Programs,
        surroundings: &Surroundings,
        plan: &Mutex<Plan>,
    ) -> anyhow::Result<()> {
        let board = Arc::clone(&self.board);
        let mut token_port = None;
        for (index, name) in SERVICES.into_iter().enumerate() {
            let program: PathBuf = programs
                .get(&format!("forebay-{name}"))
                .with_context(|| format!("cargo built no {name}"))?
                .clone();
            let starting = services::start(index, program, surroundings, token_port, &board, plan);
            let (unit, ports) = board.timed(name, starting).await?;
            token_port.get_or_insert(ports.grpc);
            self.keep(Some(unit));
            self.watches.spawn(services::watch(name, ports, Arc::clone(&board)));
        }
        Ok(())
    }

    fn keep(&mut self, unit: Option<Box<dyn Unit>>) {
        if let Some(unit) = unit {
            self.keepers.push(Keeper::start(unit, &self.board, &self.hurry));
        }
    }

    /// Stops everything, what was started last first.
    async fn take_down(&mut self) {
        self.watches.shutdown().await;
        while let Some(keeper) = self.keepers.pop() {
            let name = keeper.name();
            let line = match keeper.stop().await {
                Ok(Stopped::Gracefully) => format!("stopped {name}"),
                Ok(Stopped::Killed) => format!("killed {name}, which did not stop by itself"),
                Ok(Stopped::AlreadyGone) => format!("{name} had ended"),
                Err(error) => format!("{error:#}"),
            };
            self.board.set_health(name, Health::Stopped);
            self.board.say(&line);
        }
        if let Some(receiver) = self.receiver.take() {
            match receiver.stop().await {
                Ok(()) => self.board.say("stopped traces"),
                Err(error) => self.board.say(&format!("stop traces: {error:#}")),
            }
        }
    }
}

/// The key of this instance that signs page tokens, drawn once.
fn page_token_key(instance: &Instance) -> anyhow::Result<String> {
    use std::os::unix::fs::OpenOptionsExt as _;
    const BYTES: usize = 32;
    let path = instance.dir.join("page-token.key");
    if let Ok(key) = std::fs::read_to_string(&path)
        && key.len() == 2 * BYTES
    {
        return Ok(key);
    }
    let mut bytes = [0; BYTES];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("draw a key")?;
    let key: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, key.as_bytes()))
        .with_context(|| format!("write {}", path.display()))?;
    Ok(key)
}
