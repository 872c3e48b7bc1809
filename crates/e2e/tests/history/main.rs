//! The history of three replicas under faults: every read is judged by what had been written.
//!
//! `cargo xtask chaos cache --minutes N` runs it for longer.

mod ambush;
mod faults;
mod fleet;
mod ledger;
mod load;
mod proxy;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use self::faults::{CALM, FAULT, FAULTS, inflict};
use self::fleet::Fleet;
use self::load::Load;

/// Seconds that the faults are gone through for, again and again; once at least.
const SECONDS: &str = "FOREBAY_CHAOS_SECONDS";
/// Operations without which a run says nothing, also on a busy machine.
const OPERATIONS_MIN: u64 = 10_000;

/// Fails when a read misses what was committed longer ago than the bound, when a deleted row comes
/// back, or when a replica does not see its own write, whatever becomes of the stores meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_read_is_within_its_bound() -> anyhow::Result<()> {
    let seconds = std::env::var(SECONDS).ok().and_then(|text| text.parse().ok());
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(0));
    let mut fleet = Fleet::start().await?;
    let clients = fleet.clients().await?;
    let load = Load::start(&clients, fleet.postgres()?).await?;
    tokio::time::sleep(FAULT).await;
    let ledger = Arc::clone(&load.ledger);
    let mut rounds = 0_usize;
    let mut tallies = [Tally::default(); FAULTS.len()];
    loop {
        let before = (ledger.operations(), ledger.violations.load(Relaxed));
        for (fault, tally) in FAULTS.into_iter().zip(&mut tallies) {
            let before = (ledger.operations(), ledger.violations.load(Relaxed));
            inflict(&mut fleet, fault, rounds).await?;
            tokio::time::sleep(CALM).await;
            tally.operations += ledger.operations() - before.0;
            tally.violations += ledger.violations.load(Relaxed) - before.1;
        }
        rounds += 1;
        tell(&format!(
            "round {rounds}: {} operations, {} violations, slowest visible {:?}",
            ledger.operations() - before.0,
            ledger.violations.load(Relaxed) - before.1,
            ledger.slowest(),
        ));
        if Instant::now() >= until {
            break;
        }
    }
    let refused = Arc::clone(&load.refused);
    load.finish().await?;
    for (fault, Tally { operations, violations }) in FAULTS.into_iter().zip(tallies) {
        tell(&format!("{fault:?}: {operations} operations, {violations} violations"));
    }
    let (reads, writes) = (ledger.reads.load(Relaxed), ledger.writes.load(Relaxed));
    let violations = ledger.violations.load(Relaxed);
    tell(&format!(
        "{reads} reads and {writes} writes over {} replicas under {} faults: {violations} violations, \
         slowest visible {:?}, {} reads after \
         what their callers had seen, {} reads older than an earlier one within the bound, {} calls \
         refused",
        fleet::REPLICAS,
        rounds * FAULTS.len(),
        ledger.slowest(),
        ledger.session_reads.load(Relaxed),
        ledger.regressions.load(Relaxed),
        refused.load(Relaxed),
    ));
    assert_eq!(violations, 0, "reads that broke a promise:\n{}", ledger.told());
    assert!(reads + writes >= OPERATIONS_MIN, "too few to tell");
    Ok(())
}

/// What happened during the faults of one kind.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    operations: u64,
    violations: u64,
}

#[expect(clippy::print_stdout, reason = "the figures are what a person runs it for")]
fn tell(figures: &str) {
    println!("chaos: {figures}");
}
