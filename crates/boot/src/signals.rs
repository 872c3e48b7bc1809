//! SIGTERM and SIGINT: the first one asks for a stop, the second one is the stop.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{INTERRUPTED, TERMINATED};
use crate::readiness::Readiness;
use crate::shutdown::Shutdown;

/// Listens for signals until the process ends.
///
/// On a thread and a runtime of its own: the second signal must end the process also
/// when every thread of the service's runtime is stuck, or that runtime is gone.
pub(crate) fn listen(shutdown: Shutdown, readiness: Readiness) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut signals = {
        let _entered = runtime.enter();
        Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        }
    };
    let listen = async move {
        let (name, _) = signals.next().await;
        // Draining first: whoever sees the stop must not find the process ready.
        readiness.set_draining();
        shutdown.trigger();
        tracing::info!(signal = name, "stopping");
        let (name, code) = signals.next().await;
        tracing::warn!(signal = name, "ending at once");
        std::process::exit(code);
    };
    let thread = std::thread::Builder::new().name("signals".to_owned());
    thread.spawn(move || runtime.block_on(listen)).map(drop)
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// The next signal: its name and the exit code that stands for it.
    async fn next(&mut self) -> (&'static str, i32) {
        tokio::select! {
            _ = self.interrupt.recv() => ("SIGINT", INTERRUPTED),
            _ = self.terminate.recv() => ("SIGTERM", TERMINATED),
        }
    }
}
