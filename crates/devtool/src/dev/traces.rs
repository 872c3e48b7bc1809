//! Where traces go: a Jaeger when there is one, else our own receiver.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context as _;
use forebay_provision::{Stopwatch, ports};
use parking_lot::Mutex;

use super::board::Board;
use super::container::{self, CONTAINER, Engine};
use super::plan::{OTLP, Plan};
use super::probe;
use super::units::{ProgramUnit, Unit};
use crate::state::{ENVIRONMENT, State, Traces};
use crate::trace::receiver::{self, Receiver};

/// The source shown for our own receiver.
pub(crate) const BUILT_IN: &str = "built-in";

/// Where Jaeger shows traces.
pub(super) const JAEGER_UI: u16 = 16686;

/// How long a Jaeger of ours may take until it answers.
const JAEGER_TIMEOUT: Duration = Duration::from_secs(15);

/// Whatever takes the traces.
pub(crate) struct Up {
    /// `http://host:port` for the services.
    pub(crate) endpoint: String,
    /// Our own receiver.
    pub(crate) receiver: Option<Receiver>,
    /// A Jaeger of ours.
    pub(crate) unit: Option<Box<dyn Unit>>,
}

/// Finds or starts something that takes traces.
///
/// # Errors
///
/// When not even our own receiver can be started.
pub(crate) async fn start(
    board: &Arc<Board>,
    plan: &Arc<Mutex<Plan>>,
    last: Option<&State>,
) -> anyhow::Result<Up> {
    let own = last.and_then(|last| last.backends.traces.own());
    if let Some(endpoint) = explicit(own) {
        return Ok(outside(board, &endpoint, ENVIRONMENT).await);
    }
    if last.is_some_and(|last| last.backends.traces.source.as_deref() == Some(CONTAINER)) {
        // What a killed run left would pass for somebody else's Jaeger.
        let instance = board.instance().clone();
        blocking(move || container::remove_left(&instance)).await?;
    }
    let local = format!("http://{}", ports::loopback(OTLP));
    if probe::answers_http(JAEGER_UI).await
        && probe::accepts(&ports::loopback(OTLP).to_string()).await.is_ok()
    {
        return Ok(outside(board, &local, "running").await);
    }
    match own_jaeger(board).await {
        Ok(Some((unit, source))) => {
            let mut up = outside(board, &local, source).await;
            up.unit = Some(unit);
            Ok(up)
        }
        Ok(None) => built_in(board, plan).await,
        Err(reason) => {
            board.say(&format!("traces: {reason:#}; using our own receiver"));
            built_in(board, plan).await
        }
    }
}

/// A Jaeger that we start, and where it comes from; `None` when this machine has none.
async fn own_jaeger(board: &Arc<Board>) -> anyhow::Result<Option<(Box<dyn Unit>, &'static str)>> {
    if let Some(program) = installed() {
        need_ports()?;
        let unit = launched(board, program)?;
        return Ok(Some((answering(unit).await?, "installed")));
    }
    let Some(engine) = blocking(Engine::find).await? else {
        return Ok(None);
    };
    need_ports()?;
    let board = Arc::clone(board);
    let unit = blocking(move || engine.start(&board)).await??;
    Ok(Some((answering(Box::new(unit)).await?, CONTAINER)))
}

async fn built_in(board: &Arc<Board>, plan: &Mutex<Plan>) -> anyhow::Result<Up> {
    const ATTEMPTS: usize = 5;
    let dir = board.instance().traces_dir();
    let mut attempt = 1;
    let receiver = loop {
        let listen = ports::loopback(plan.lock().otlp()?);
        match receiver::start(listen, &dir).await {
            Ok(receiver) => break receiver,
            // Somebody may have taken the port since it was chosen.
            Err(_) if attempt < ATTEMPTS && !ports::is_free(listen.port()) => attempt += 1,
            Err(error) => return Err(error).context("start the trace receiver"),
        }
    };
    let address = receiver.address().to_string();
    let endpoint = format!("http://{address}");
    note(board, Traces { otlp: Some(address), query: None, source: Some(BUILT_IN.to_owned()) });
    Ok(Up { endpoint, receiver: Some(receiver), unit: None })
}

/// An endpoint that the user has set, unless `cargo xtask env` has put our own last one there.
fn explicit(own: Option<&str>) -> Option<String> {
    let endpoint = std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok()?;
    let address = endpoint.split_once("://").map_or(endpoint.as_str(), |(_, rest)| rest);
    let ours = Some(address.trim_end_matches('/')) == own;
    (!endpoint.is_empty() && !ours).then(|| endpoint.clone())
}

async fn outside(board: &Arc<Board>, endpoint: &str, source: &str) -> Up {
    let address = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let address = address.trim_end_matches('/').to_owned();
    let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
    let query = format!("http://{host}:{JAEGER_UI}");
    note(
        board,
        Traces { otlp: Some(address), query: Some(query), source: Some(source.to_owned()) },
    );
    Up { endpoint: endpoint.to_owned(), receiver: None, unit: None }
}

fn note(board: &Board, traces: Traces) {
    board.update(|state| state.backends.traces = traces);
}

/// `JAEGER_BIN`, else a Jaeger on `PATH`.
pub(crate) fn installed() -> Option<PathBuf> {
    if let Some(program) = std::env::var_os("JAEGER_BIN") {
        return Some(PathBuf::from(program));
    }
    let path = std::env::var_os("PATH")?;
    let dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    ["jaeger", "jaeger-all-in-one"]
        .iter()
        .find_map(|name| dirs.iter().map(|dir| dir.join(name)).find(|path| path.is_file()))
}

/// Starts an installed Jaeger with its own defaults: all in one process, traces in memory.
fn launched(board: &Arc<Board>, program: PathBuf) -> anyhow::Result<Box<dyn Unit>> {
    let mut unit = ProgramUnit {
        name: "jaeger",
        program,
        args: Vec::new(),
        env: vec![("COLLECTOR_OTLP_ENABLED".to_owned(), "true".to_owned())],
        output: board.output("jaeger")?,
        process: None,
    };
    unit.launch()?;
    Ok(Box::new(unit))
}

/// Where Jaeger listens cannot be moved for what looks for it there.
fn need_ports() -> anyhow::Result<()> {
    for port in [OTLP, JAEGER_UI] {
        anyhow::ensure!(ports::is_free(port), "Jaeger needs port {port}, which is taken");
    }
    Ok(())
}

/// The unit once its Jaeger answers; one that does not is stopped.
async fn answering(unit: Box<dyn Unit>) -> anyhow::Result<Box<dyn Unit>> {
    let watch = Stopwatch::start();
    let failure = loop {
        if let Some(process) = unit.process()
            && let Some(status) = process.exit_status()
        {
            break format!("Jaeger ended ({status}): {}", process.tail().join(" | "));
        }
        if probe::answers_http(JAEGER_UI).await {
            return Ok(unit);
        }
        if watch.elapsed() > JAEGER_TIMEOUT {
            break format!("Jaeger did not answer within {} s", JAEGER_TIMEOUT.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    blocking(move || unit.stop(&AtomicBool::new(true))).await?;
    anyhow::bail!(failure)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("start Jaeger")
}
