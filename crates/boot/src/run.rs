//! From the command line to the exit code.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use forebay_config::{Command, Config, DEFAULTS, Invocation, Loaded};
use forebay_telemetry::Telemetry;
use tokio::task::JoinError;

use crate::exit::{self, Outcome};
use crate::ops::OpsServer;
use crate::process::Process;
use crate::readiness::Readiness;
use crate::shutdown::Shutdown;
use crate::signals;

/// Runs a server: settings, telemetry, signals, the operators' port, then `serve`.
///
/// `serve` returns after [`Process::shutdown`] fired and its requests have drained.
pub fn run<F, Fut>(service: &'static str, serve: F) -> ExitCode
where
    F: FnOnce(Config, Process) -> Fut + Send + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    start(service, Kind::Server, serve)
}

/// Runs a job that ends by itself, such as a migration. It opens no port, so it can run
/// beside the servers with the same settings.
pub fn run_job<F, Fut>(service: &'static str, job: F) -> ExitCode
where
    F: FnOnce(Config, Process) -> Fut + Send + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    start(service, Kind::Job, job)
}

/// What is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Server,
    Job,
}

/// How long ending the runtime may take: tasks are dropped at once, and this is the
/// patience with those that block a thread.
const RUNTIME_END_TIMEOUT: Duration = Duration::from_secs(1);

fn start<F, Fut>(service: &'static str, kind: Kind, serve: F) -> ExitCode
where
    F: FnOnce(Config, Process) -> Fut + Send + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let invocation = Invocation::of_process();
    let command = invocation.command();
    match command {
        Command::Help => return exit::answer(&usage(service)),
        Command::Version => return exit::answer(&format!("{service} {VERSION}\n")),
        Command::PrintDefaults => return exit::answer(DEFAULTS),
        Command::Run | Command::PrintConfig => {}
    }
    let loaded = match forebay_config::load(service, &invocation) {
        Ok(loaded) => loaded,
        Err(errors) => {
            exit::complain(&format!("{service}: {errors}"));
            return ExitCode::from(exit::USAGE);
        }
    };
    if command == Command::PrintConfig {
        let lines = loaded.settings.iter().map(|setting| format!("{setting}\n"));
        return exit::answer(&lines.collect::<String>());
    }
    match forebay_telemetry::init(&loaded.config.telemetry, service) {
        Ok(telemetry) => live(service, kind, loaded, &telemetry, serve),
        Err(error) => {
            exit::complain(&format!("{service}: {:#}", anyhow::Error::new(error)));
            ExitCode::from(exit::USAGE)
        }
    }
}

/// The version of this build.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

fn usage(service: &str) -> String {
    format!(
        "Usage: {service} [--config FILE] [--section.key=value]...\n\
         \n\
         --config FILE          settings that differ from the defaults (or FOREBAY_CONFIG)\n\
         --section.key=value    one setting; also FOREBAY__SECTION__KEY in the environment\n\
         --print-config         print every setting in force with its source, and end\n\
         --print-defaults       print the commented reference of all settings, and end\n\
         --version, --help      print this, and end\n"
    )
}

/// Everything after the settings are known. The order of the end matters: the service,
/// then the runtime with all tasks, whose spans close with them, then the flush.
fn live<F, Fut>(
    service: &'static str,
    kind: Kind,
    loaded: Loaded,
    telemetry: &Telemetry,
    serve: F,
) -> ExitCode
where
    F: FnOnce(Config, Process) -> Fut + Send + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    exit::log_panics(telemetry.handle());
    let Loaded { config, settings, warnings } = loaded;
    let flush_timeout = config.telemetry.flush_timeout;
    let process = Process {
        service,
        shutdown: Shutdown::new(),
        readiness: Readiness::new(),
        settings: settings.into(),
        telemetry: telemetry.handle(),
    };
    if kind == Kind::Server {
        for warning in warnings {
            tracing::warn!(warning, "check the settings");
        }
    }
    let outcome = match runtime(&process) {
        Ok(runtime) => {
            let outcome = runtime.block_on(supervise(kind, config, process, serve));
            runtime.shutdown_timeout(RUNTIME_END_TIMEOUT);
            outcome
        }
        Err(error) => Outcome::Failed(error),
    };
    let code = outcome.report(&telemetry.handle());
    if let Err(error) = telemetry.flush(flush_timeout) {
        tracing::warn!(error = %error, "spans were left behind");
    }
    code
}

fn runtime(process: &Process) -> anyhow::Result<tokio::runtime::Runtime> {
    signals::listen(process.shutdown.clone(), process.readiness.clone())
        .context("listen for signals")?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name(process.service)
        .build()
        .context("start the runtime")
}

/// Runs the service beside the operators' port until it ends or takes too long to stop.
async fn supervise<F, Fut>(kind: Kind, config: Config, process: Process, serve: F) -> Outcome
where
    F: FnOnce(Config, Process) -> Fut + Send + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let ops = match kind {
        Kind::Job => None,
        Kind::Server => match OpsServer::bind(config.ops.listen, &process).await {
            Ok(ops) => Some(ops),
            Err(error) => return Outcome::Failed(error),
        },
    };
    tracing::info!(version = VERSION, pid = std::process::id(), "starting");
    let flush_timeout = config.telemetry.flush_timeout;
    let stop_timeout =
        config.process.shutdown_timeout.saturating_sub(flush_timeout + RUNTIME_END_TIMEOUT);
    let shutdown = process.shutdown.clone();
    let readiness = process.readiness.clone();
    let overdue = async {
        shutdown.fired().await;
        // A signal has done so already; a stop asked for from within has not.
        readiness.set_draining();
        tokio::time::sleep(stop_timeout).await;
    };
    let mut serving = tokio::spawn(serve(config, process));
    let outcome = tokio::select! {
        // When both are over, the service has stopped.
        biased;
        ended = &mut serving => outcome(ended),
        () = overdue => {
            serving.abort();
            Outcome::Failed(anyhow::anyhow!("the service did not stop within {stop_timeout:?}"))
        }
    };
    // The port closes after the service, so that probes see it draining.
    drop(ops);
    tracing::info!("stopped");
    outcome
}

fn outcome(ended: Result<anyhow::Result<()>, JoinError>) -> Outcome {
    match ended {
        Ok(Ok(())) => Outcome::Done,
        Ok(Err(error)) => Outcome::Failed(error),
        Err(error) if error.is_panic() => Outcome::Panicked,
        Err(error) => Outcome::Failed(anyhow::Error::new(error).context("run the service")),
    }
}
