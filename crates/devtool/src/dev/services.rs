//! The services of an instance: started one after the other, each when the one before is ready.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use forebay_provision::{Stopwatch, ports};
use parking_lot::Mutex;

use super::board::Board;
use super::plan::{Plan, ServicePorts};
use super::probe;
use super::units::{ProgramUnit, Unit, record};
use crate::state::{Health, SERVICES};

/// How long a service may take until it is ready.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// How often a service that starts is asked.
const STEP: Duration = Duration::from_millis(20);

/// How often a service that runs is asked.
pub(crate) const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// What all services are given.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    /// `DATABASE_URL`.
    pub(crate) postgres: String,
    /// `REDIS_URL`.
    pub(crate) redis: String,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub(crate) traces: String,
    /// Signs page tokens; kept, so that a page token outlives a restart.
    pub(crate) page_token_key: String,
}

/// Starts the service with this index in [`SERVICES`] and waits until it is ready. `token_port` is
/// where the token service listens.
///
/// # Errors
///
/// With the last lines of the service, when it ends or does not get ready in time.
pub(crate) async fn start(
    index: usize,
    program: PathBuf,
    surroundings: &Surroundings,
    token_port: Option<u16>,
    board: &Arc<Board>,
    plan: &Mutex<Plan>,
) -> anyhow::Result<(Box<dyn Unit>, ServicePorts)> {
    const ATTEMPTS: usize = 3;
    let name = SERVICES[index];
    let output = board.output(name)?;
    let mut attempt = 1;
    loop {
        let listen = plan.lock().service(index)?;
        let mut unit = ProgramUnit {
            name,
            program: program.clone(),
            args: Vec::new(),
            env: environment(surroundings, listen, token_port.unwrap_or(listen.grpc)),
            output: output.clone(),
            process: None,
        };
        announce(board, name, listen);
        unit.launch()?;
        record(board, &unit);
        match await_ready(&unit, listen).await {
            Ok(()) => {
                board.set_health(name, Health::Ready);
                return Ok((Box::new(unit), listen));
            }
            // Somebody took one of its ports between the choice and the start.
            Err(_) if attempt < ATTEMPTS && has_lost_port(&unit, listen) => attempt += 1,
            Err(error) => {
                board.update(|state| {
                    if let Some(service) = state.service_mut(name) {
                        service.state = Health::Failed;
                    }
                });
                return Err(error);
            }
        }
    }
}

/// Asks a running service again and again how it is.
pub(crate) async fn watch(name: &'static str, ports: ServicePorts, board: Arc<Board>) {
    loop {
        tokio::time::sleep(PROBE_INTERVAL).await;
        let health = match probe::readyz(ports.ops).await {
            Ok(()) => Health::Ready,
            Err(_) => Health::Starting,
        };
        board.set_health(name, health);
    }
}

fn announce(board: &Board, name: &str, listen: ServicePorts) {
    board.update(|state| {
        if let Some(service) = state.service_mut(name) {
            service.state = Health::Starting;
            service.grpc = Some(ports::loopback(listen.grpc).to_string());
            service.ops = Some(format!("http://{}", ports::loopback(listen.ops)));
        }
    });
}

fn environment(
    surroundings: &Surroundings,
    listen: ServicePorts,
    token_port: u16,
) -> Vec<(String, String)> {
    let token = format!("http://{}", ports::loopback(token_port));
    [
        ("DATABASE_URL", surroundings.postgres.clone()),
        ("REDIS_URL", surroundings.redis.clone()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", surroundings.traces.clone()),
        // No load balancer has to notice that a development service goes.
        ("FOREBAY__GRPC__LAME_DUCK", "0s".to_owned()),
        ("FOREBAY__GRPC__LISTEN", ports::loopback(listen.grpc).to_string()),
        ("FOREBAY__GRPC__PAGE_TOKEN_KEY", surroundings.page_token_key.clone()),
        ("FOREBAY__OPS__LISTEN", ports::loopback(listen.ops).to_string()),
        ("FOREBAY__TOKEN_CLIENT__ENDPOINT", token),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

async fn await_ready(unit: &ProgramUnit, listen: ServicePorts) -> anyhow::Result<()> {
    let watch = Stopwatch::start();
    let process = unit.process().context("the service was not started")?;
    loop {
        let not_yet = match probe::service(listen).await {
            Ok(()) => return Ok(()),
            Err(reason) => reason,
        };
        if let Some(status) = process.exit_status() {
            bail!("{} ended ({status}): {}", unit.name, last_words(process));
        }
        if watch.elapsed() > READY_TIMEOUT {
            bail!("{} is not ready: {not_yet:#}; {}", unit.name, last_words(process));
        }
        tokio::time::sleep(STEP).await;
    }
}

fn last_words(process: &forebay_provision::Process) -> String {
    let lines = process.tail();
    format!("its last lines:\n    {}", lines.join("\n    "))
}

fn has_lost_port(unit: &ProgramUnit, listen: ServicePorts) -> bool {
    unit.process().is_some_and(|process| !process.is_running())
        && [listen.grpc, listen.ops].iter().any(|port| !ports::is_free(*port))
}
