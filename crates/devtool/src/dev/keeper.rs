//! Keeps one unit running until it is told to stop.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context as _;
use forebay_provision::Stopped;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::board::Board;
use super::crashes::{Crashes, Verdict};
use super::units::{Unit, record};
use crate::state::Health;

/// How often a unit is looked at. The look takes a lock and no system call.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A unit that is kept running.
#[derive(Debug)]
pub(crate) struct Keeper {
    name: &'static str,
    stop: watch::Sender<bool>,
    task: JoinHandle<anyhow::Result<Stopped>>,
}

impl Keeper {
    /// Keeps `unit`, which was launched already, running. `hurry` shortens its stop.
    pub(crate) fn start(unit: Box<dyn Unit>, board: &Arc<Board>, hurry: &Arc<AtomicBool>) -> Self {
        let name = unit.name();
        record(board, unit.as_ref());
        let (stop, stopping) = watch::channel(false);
        let keeping = keep(unit, Arc::clone(board), stopping, Arc::clone(hurry));
        Self { name, stop, task: tokio::spawn(keeping) }
    }

    /// Name of the unit.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Stops the unit and waits until it is gone.
    ///
    /// # Errors
    ///
    /// When the unit could not be kept for a reason of ours.
    pub(crate) async fn stop(self) -> anyhow::Result<Stopped> {
        // Nobody listens only when the task has ended, and then its result is there.
        let _ended = self.stop.send(true);
        self.task.await.with_context(|| format!("keep {} running", self.name))?
    }
}

async fn keep(
    mut unit: Box<dyn Unit>,
    board: Arc<Board>,
    mut stopping: watch::Receiver<bool>,
    hurry: Arc<AtomicBool>,
) -> anyhow::Result<Stopped> {
    let name = unit.name();
    let mut crashes = Crashes::default();
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => break,
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
        let end = match unit.process().map(|process| process.exit_status()) {
            Some(None) => continue,
            Some(Some(status)) => format!("ended ({status})"),
            None => "did not start".to_owned(),
        };
        board.set_health(name, Health::Starting);
        let pause = match crashes.ended(board.elapsed()) {
            Verdict::Again(pause) => pause,
            Verdict::GiveUp => {
                give_up(&board, unit.as_ref());
                // Nothing is left to keep; the end is waited for all the same.
                let _stop = stopping.wait_for(|stop| *stop).await;
                break;
            }
        };
        board.say(&format!("{name} {end}, starting it again in {pause:?}"));
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => break,
            () = tokio::time::sleep(pause) => {}
        }
        let launched = tokio::task::spawn_blocking(move || {
            let launched = unit.launch();
            (unit, launched)
        });
        let (back, launched) = launched.await.with_context(|| format!("start {name} again"))?;
        unit = back;
        match launched {
            Ok(()) => {
                record(&board, unit.as_ref());
                board.update(|state| {
                    if let Some(service) = state.service_mut(name) {
                        service.restarts += 1;
                    }
                });
            }
            // The process is the dead one or none, so the next look counts this as an end.
            Err(error) => board.say(&format!("{name} does not start: {error:#}")),
        }
    }
    tokio::task::spawn_blocking(move || unit.stop(&hurry))
        .await
        .with_context(|| format!("stop {name}"))
}

fn give_up(board: &Board, unit: &dyn Unit) {
    let name = unit.name();
    board.say(&format!("{name} keeps ending and is left alone; its last lines:"));
    for line in unit.process().map(|process| process.tail()).unwrap_or_default() {
        board.say(&format!("    {line}"));
    }
    board.update(|state| {
        if let Some(service) = state.service_mut(name) {
            service.state = Health::Failed;
            service.pid = None;
        }
        state.failure = Some(format!("{name} keeps ending: cargo xtask logs --svc {name}"));
    });
}
