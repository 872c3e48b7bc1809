//! The table of a run, and the page it is kept on.

use std::fmt::Write as _;

use anyhow::Context as _;
use serde::Deserialize;

/// One case, as a bench prints it.
#[derive(Debug, Deserialize)]
pub(super) struct Case {
    bench: String,
    case: String,
    ours: f64,
    peer: String,
    theirs: f64,
    unit: String,
    ratio: f64,
    goal: Option<String>,
    met: Option<bool>,
}

/// Reads one line of a bench.
pub(super) fn parse(line: &str) -> anyhow::Result<Case> {
    serde_json::from_str(line).with_context(|| format!("a bench printed {line:?}"))
}

/// The cases as a Markdown table.
pub(super) fn table(cases: &[Case]) -> String {
    let mut text = String::from(
        "| bench | case | peer | ours | theirs | unit | ours / theirs | goal |\n\
         |---|---|---|---:|---:|---|---:|---|\n",
    );
    for case in cases {
        let goal = match (&case.goal, case.met) {
            (Some(goal), Some(true)) => format!("{goal}: met"),
            (Some(goal), _) => format!("{goal}: **missed**"),
            (None, _) => String::new(),
        };
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {:.3} | {goal} |",
            case.bench, case.case, case.peer, case.ours, case.theirs, case.unit, case.ratio
        )
        .expect("a String takes all that is written to it");
    }
    text
}

/// The page `docs/benchmarks.md`.
pub(super) fn page(cases: &[Case]) -> String {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "# Benchmarks\n\n\
         Written by `cargo xtask bench`; run it to repeat them. Both sides run in turn, round by\n\
         round, in one run on one machine ({processors} processors, shared with the load). Figures are\n\
         medians over the rounds; the ratio is the median of the ratios of neighbouring rounds. A\n\
         ratio counts, an absolute figure does not.\n\n{}",
        table(cases)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_goal_is_shown() {
        let line = |met| {
            format!(
                r#"{{"bench":"grpc","case":"c","ours":9.0,"peer":"p","theirs":10.0,"unit":"calls/s","ratio":0.9,"goal":">= 0.9","met":{met}}}"#
            )
        };
        let cases = [parse(&line(true)).unwrap(), parse(&line(false)).unwrap()];
        let table = table(&cases);
        assert!(table.contains("| 0.900 | >= 0.9: met |"), "{table}");
        assert!(table.contains("| 0.900 | >= 0.9: **missed** |"), "{table}");
        assert!(parse("{}").is_err());
    }
}
