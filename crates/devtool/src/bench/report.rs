//! The tables of a run.

use std::fmt::Write as _;

use anyhow::Context as _;
use serde::Deserialize;

/// One case, as a bench prints it. A peer that could not be run has no figures, and the reason in
/// the place of the unit.
#[derive(Debug, Deserialize)]
pub(super) struct Case {
    pub(super) bench: String,
    case: String,
    ours: Option<f64>,
    peer: String,
    theirs: Option<f64>,
    unit: String,
    ratio: Option<f64>,
    goal: Option<String>,
    met: Option<bool>,
}

/// What a side did in a race, as a bench prints it.
#[derive(Debug, Deserialize)]
pub(super) struct Outcome {
    pub(super) bench: String,
    race: String,
    side: String,
    outcome: String,
}

/// One line of a bench.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Line {
    /// Figures.
    Case(Case),
    /// Words.
    Outcome(Outcome),
}

impl Line {
    /// Name of the bench that printed it.
    pub(super) fn bench(&self) -> &str {
        match self {
            Self::Case(case) => &case.bench,
            Self::Outcome(outcome) => &outcome.bench,
        }
    }
}

impl Case {
    /// What was compared, and the figure of it.
    fn parts(&self) -> (&str, &str) {
        self.case.rsplit_once(": ").unwrap_or((&self.case, ""))
    }

    /// Whether the peer is somebody, and not the bound of a goal.
    fn has_peer(&self) -> bool {
        self.ours.is_some() && self.peer != "the bound"
    }
}

/// Reads one line of a bench.
pub(super) fn parse(line: &str) -> anyhow::Result<Line> {
    serde_json::from_str(line).with_context(|| format!("a bench printed {line:?}"))
}

/// The lines as Markdown: for everything that was compared a table, and its goals; then what came
/// out of the races.
pub(super) fn tables(lines: &[Line]) -> String {
    let (mut cases, mut outcomes) = (Vec::new(), Vec::new());
    for line in lines {
        match line {
            Line::Case(case) => cases.push(case),
            Line::Outcome(outcome) => outcomes.push(outcome),
        }
    }
    let mut text = figures(&cases);
    if !outcomes.is_empty() {
        put(&mut text, &format!("\n### Races\n\n{}", races(&outcomes)));
    }
    text
}

/// A row for every race, a column for every side.
fn races(outcomes: &[&Outcome]) -> String {
    let sides = distinct(outcomes.iter().map(|outcome| outcome.side.as_str()));
    let mut text = format!("| | {} |\n|---|{}\n", sides.join(" | "), "---|".repeat(sides.len()));
    for race in distinct(outcomes.iter().map(|outcome| outcome.race.as_str())) {
        put(&mut text, &format!("| {race} |"));
        for side in &sides {
            let found = outcomes.iter().find(|o| o.race == race && o.side == *side);
            put(&mut text, &format!(" {} |", found.map_or("", |found| &found.outcome)));
        }
        text.push('\n');
    }
    text
}

fn figures(cases: &[&Case]) -> String {
    let mut text = String::new();
    let absent: Vec<_> = cases.iter().filter(|case| case.ours.is_none()).collect();
    for case in &absent {
        put(&mut text, &format!("Not in this run: {} ({}).\n", case.peer, case.unit));
    }
    for what in distinct(cases.iter().filter(|case| case.ours.is_some()).map(|c| c.parts().0)) {
        let group: Vec<&Case> =
            cases.iter().copied().filter(|case| case.parts().0 == what).collect();
        put(&mut text, &format!("\n### {what}\n\n{}", table(&group)));
        for case in group {
            if let Some(goal) = &case.goal {
                put(&mut text, &format!("- {}\n", verdict(case, goal)));
            }
        }
    }
    text
}

/// Rows are we and the peers, columns are figures; a peer's has ours / theirs beside it.
fn table(group: &[&Case]) -> String {
    let cases: Vec<&Case> = group.iter().copied().filter(|case| case.has_peer()).collect();
    if cases.is_empty() {
        return String::new();
    }
    let figures = distinct(cases.iter().map(|case| case.parts().1));
    let find = |figure: &str, peer: Option<&str>| {
        cases
            .iter()
            .find(|case| case.parts().1 == figure && peer.is_none_or(|peer| case.peer == peer))
    };
    let (mut head, mut line, mut ours) =
        (String::from("| |"), String::from("|---|"), String::from("| ours |"));
    for figure in &figures {
        let case = find(figure, None);
        put(&mut head, &format!(" {figure}, {} |", case.map_or("", |case| &case.unit)));
        line.push_str("---:|");
        put(&mut ours, &format!(" {} |", number(case.and_then(|case| case.ours))));
    }
    let mut text = format!("{head}\n{line}\n{ours}\n");
    for peer in distinct(cases.iter().map(|case| case.peer.as_str())) {
        put(&mut text, &format!("| {peer} |"));
        for figure in &figures {
            match find(figure, Some(peer)) {
                Some(Case { theirs, ratio: Some(ratio), .. }) => {
                    put(&mut text, &format!(" {} ({ratio:.3}) |", number(*theirs)));
                }
                Some(Case { theirs, ratio: None, .. }) => {
                    put(&mut text, &format!(" {} |", number(*theirs)));
                }
                None => text.push_str("  |"),
            }
        }
        text.push('\n');
    }
    text.push('\n');
    text
}

fn verdict(case: &Case, goal: &str) -> String {
    let (what, figure) = case.parts();
    let figure = if figure.is_empty() { what } else { figure };
    let outcome = if case.met == Some(true) { "met" } else { "**missed**" };
    let (ours, theirs) = (number(case.ours), number(case.theirs));
    match (goal.split(' ').next(), case.ratio) {
        // Nothing is no ratio of anything.
        (Some("="), _) => format!("{figure} {goal}: {ours}, {outcome}"),
        (Some(relation), ratio) if !case.has_peer() || ratio.is_none() => {
            format!("{figure} {relation} {theirs} {}: {ours}, {outcome}", case.unit)
        }
        (_, ratio) => {
            let ratio = ratio.unwrap_or(f64::NAN);
            format!("{figure}, ours / {} {goal}: {ratio:.3}, {outcome}", case.peer)
        }
    }
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// The values without repetitions, in their order.
fn distinct<'a>(values: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for value in values {
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    seen
}

fn put(text: &mut String, more: &str) {
    text.write_str(more).expect("a String takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(case: &str, peer: &str, ours: &str, theirs: &str, ratio: &str, goal: &str) -> Line {
        let unit = if ours == "null" { "absent: no node" } else { "ops/s" };
        parse(&format!(
            r#"{{"bench":"pools","case":"{case}","ours":{ours},"peer":"{peer}","theirs":{theirs},"unit":"{unit}","ratio":{ratio},{goal}}}"#
        ))
        .unwrap()
    }

    #[test]
    fn a_table_has_a_row_a_peer_and_every_goal_below() {
        let (none, goal) = (r#""goal":null,"met":null"#, r#""goal":">= 0.9","met""#);
        let cases = [
            line("GET, 8 tasks: rate", "a", "9.0", "10.0", "0.9", &format!("{goal}:true")),
            line("GET, 8 tasks: wait", "a", "3.5", "7.0", "0.5", none),
            line("GET, 8 tasks: rate", "b", "9.0", "20.0", "0.45", &format!("{goal}:false")),
            line("GET, 8 tasks: wait", "the bound", "3.5", "7", "0.5", &format!("{goal}:true")),
            line("GET", "c", "null", "null", "null", none),
            line("GET, 8 tasks: lost", "a", "0.0", "3.0", "0", r#""goal":"= 0","met":true"#),
            line(
                "GET, 8 tasks: rate",
                "the bound",
                "9.0",
                "8.0",
                "1.1",
                r#""goal":">= 1","met":true"#,
            ),
            parse(r#"{"bench":"pools","race":"kill","side":"ours","outcome":"ok"}"#).unwrap(),
            parse(r#"{"bench":"pools","race":"kill","side":"a","outcome":"hung"}"#).unwrap(),
        ];
        let text = tables(&cases);
        for expected in [
            "Not in this run: c (absent: no node).",
            "### GET, 8 tasks\n",
            "| | rate, ops/s | wait, ops/s | lost, ops/s |",
            "| ours | 9 | 3.5 | 0 |",
            "| a | 10 (0.900) | 7 (0.500) | 3 (0.000) |",
            "| b | 20 (0.450) |  |  |",
            "- rate, ours / a >= 0.9: 0.900, met",
            "- rate, ours / b >= 0.9: 0.450, **missed**",
            "- wait >= 7 ops/s: 3.5, met",
            "- lost = 0: 0, met",
            "- rate >= 8 ops/s: 9, met",
            "### Races\n\n| | ours | a |\n|---|---|---|\n| kill | ok | hung |\n",
        ] {
            assert!(text.contains(expected), "no {expected:?} in {text}");
        }
        assert!(!text.contains("| the bound"), "{text}");
        assert!(parse("{}").is_err());
    }
}
