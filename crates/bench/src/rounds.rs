//! All sides in turn, round by round.

use std::time::Duration;

use crate::report::median;
use crate::side::{Figures, Side};

/// Odd, so that a median is a round that happened.
pub const ROUNDS: usize = 5;
/// How long one side runs in one round.
pub const ROUND: Duration = Duration::from_millis(1000);
/// How long a side runs before the first round, so that its connections are open and its
/// statements prepared.
const WARM_UP: Duration = Duration::from_millis(300);

/// How long one side runs in one round, and before the first.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    round: Duration,
    warm_up: Duration,
}

impl Span {
    /// Rounds of so many milliseconds; a side warms up for a third of that.
    pub const fn millis(round: u64) -> Self {
        let warm_up = Duration::from_millis(round / 3);
        Self { round: Duration::from_millis(round), warm_up }
    }
}

/// What every round of one side did.
#[derive(Debug)]
pub struct Rounds {
    /// Name of the side.
    pub name: String,
    /// One entry a round.
    pub rounds: Vec<Figures>,
}

impl Rounds {
    /// One figure of every round; `None` when the side does not tell it.
    pub fn figure(&self, figure: impl Fn(&Figures) -> Option<f64>) -> Option<Vec<f64>> {
        self.rounds.iter().map(figure).collect()
    }
}

/// Runs all sides that can run with `tasks` tasks, and tells how far it is on the standard error.
///
/// # Errors
/// When a call of any side fails.
pub async fn interleave(
    what: &str,
    sides: &mut [Side],
    tasks: usize,
) -> anyhow::Result<Vec<Rounds>> {
    interleave_for(what, sides, tasks, Span { round: ROUND, warm_up: WARM_UP }).await
}

/// As [`interleave`], with rounds of another length.
///
/// # Errors
/// When a call of any side fails.
pub async fn interleave_for(
    what: &str,
    sides: &mut [Side],
    tasks: usize,
    span: Span,
) -> anyhow::Result<Vec<Rounds>> {
    let mut sides: Vec<&mut Side> =
        sides.iter_mut().filter(|side| side.tasks_min <= tasks).collect();
    for side in &mut sides {
        side.round(tasks, span.warm_up).await?;
    }
    let mut all: Vec<Rounds> =
        sides.iter().map(|side| Rounds { name: side.name.clone(), rounds: Vec::new() }).collect();
    if sides.is_empty() {
        return Ok(all);
    }
    for round in 0..ROUNDS {
        // Who goes first changes, so that a slow drift of the machine favours nobody.
        for turn in 0..sides.len() {
            let index = (round + turn) % sides.len();
            all[index].rounds.push(sides[index].round(tasks, span.round).await?);
        }
        eprintln!("  {what}, {tasks} tasks: round {} of {ROUNDS}", round + 1);
    }
    for side in &all {
        let throughput = side.figure(|figures| Some(figures.throughput)).unwrap_or_default();
        let max = side.figure(|figures| figures.waits.map(|waits| waits.max_us));
        let max = max.map_or(String::new(), |max| format!(", max {:.1} ms", median(max) / 1e3));
        eprintln!("    {:9.0}/s{max}  {}", median(throughput), side.name);
    }
    Ok(all)
}
