//! What the gate in front of a connection pool costs a caller who finds a place free.

use std::panic::Location;
use std::time::{Duration, Instant};

use forebay_pooling::{Gate, GateConfig};

use crate::pools::{CONNECTIONS, bound};
use crate::rounds::ROUNDS;

/// Entries and leavings that are timed together.
const BATCH: u32 = 100_000;
/// What one may cost at most, in nanoseconds.
const BOUND_NS: f64 = 1_000.0;

/// Measures and reports.
///
/// # Errors
/// When the gate turns a lone caller away.
pub async fn measure() -> anyhow::Result<()> {
    let permits = usize::try_from(CONNECTIONS)?;
    let gate = Gate::new(GateConfig::new(permits, 512, Duration::from_secs(2)));
    enter_and_leave(&gate).await?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        enter_and_leave(&gate).await?;
        rounds.push(started.elapsed().as_nanos() as f64 / f64::from(BATCH));
    }
    eprintln!("  gate: {rounds:.0?} ns to enter and leave");
    bound("Gate, a lone caller: entering and leaving".to_owned(), "ns", rounds, BOUND_NS);
    Ok(())
}

async fn enter_and_leave(gate: &Gate) -> anyhow::Result<()> {
    for _ in 0..BATCH {
        drop(std::hint::black_box(gate.acquire(Location::caller()).await?));
    }
    Ok(())
}
