//! A trace drawn as a waterfall: who did what, when, for how long, and with which outcome.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::clock::{Millis, Utc};
use super::model::{Span, Trace};

/// How many cells the longest bar has.
const BAR_CELLS: u8 = 24;

/// The deepest nesting drawn; deeper spans line up below.
const DEPTH_MAX: usize = 12;

/// Longer statements are cut; `--json` has them whole.
const DETAIL_CHARS_MAX: usize = 160;

/// Draws `trace`, one line a span.
pub(crate) fn draw(trace: &Trace) -> String {
    let mut rows = Vec::new();
    let mut drawn = HashSet::new();
    for top in trace.tops() {
        collect(trace, top, 0, &mut drawn, &mut rows);
    }
    // Spans that are each other's parents hang from no top; draw them rather than lose them.
    for span in &trace.spans {
        collect(trace, span, 0, &mut drawn, &mut rows);
    }
    let service_width = rows.iter().map(|row| row.span.service.len()).max().unwrap_or(0);
    let name_width = rows.iter().map(Row::width).max().unwrap_or(0);
    let mut text = heading(trace);
    for row in &rows {
        let indent = "  ".repeat(row.depth);
        let offset = Millis(row.span.start.saturating_sub(trace.start()));
        let line = format!(
            "{:<service_width$}  {indent}{:<width$}  {offset:>9}  {:>9}  {}  {}",
            row.span.service,
            row.span.name,
            Millis(row.span.duration()),
            bar(trace, row.span),
            detail(row.span),
            width = name_width - indent.len(),
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[derive(Debug)]
struct Row<'a> {
    depth: usize,
    span: &'a Span,
}

impl Row<'_> {
    fn width(&self) -> usize {
        2 * self.depth + self.span.name.chars().count()
    }
}

fn collect<'a>(
    trace: &'a Trace,
    span: &'a Span,
    depth: usize,
    drawn: &mut HashSet<&'a str>,
    rows: &mut Vec<Row<'a>>,
) {
    // A chain of spans can be longer than the thread's own stack.
    let mut waiting = vec![(depth, span)];
    while let Some((depth, span)) = waiting.pop() {
        if !drawn.insert(&span.id) {
            continue;
        }
        rows.push(Row { depth: depth.min(DEPTH_MAX), span });
        waiting.extend(trace.children(&span.id).rev().map(|child| (depth + 1, child)));
    }
}

fn heading(trace: &Trace) -> String {
    let services: Vec<&str> = trace.services().into_iter().collect();
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _infallible = writeln!(
        text,
        "trace {}  {}  {}  {} spans  {} failed  {}\n",
        trace.id,
        Utc(trace.start()),
        Millis(trace.duration()),
        trace.spans.len(),
        trace.errors(),
        services.join(", "),
    );
    text
}

fn bar(trace: &Trace, span: &Span) -> String {
    let cells = usize::from(BAR_CELLS);
    let whole = u128::from(trace.duration().max(1));
    let cell = |at: u64| {
        let filled = u128::from(at) * u128::from(BAR_CELLS) / whole;
        usize::try_from(filled).map_or(cells, |filled| filled.min(cells))
    };
    let offset = span.start.saturating_sub(trace.start());
    let from = cell(offset).min(cells - 1);
    // Even the shortest span is seen.
    let until = cell(offset.saturating_add(span.duration())).max(from + 1);
    format!("{}{}{}", "·".repeat(from), "█".repeat(until - from), "·".repeat(cells - until))
}

/// The outcome of a span: status, then what it asked of a store, then the cache's answer.
fn detail(span: &Span) -> String {
    let mut parts = Vec::new();
    if span.failed {
        parts.push("FAILED".to_owned());
    }
    parts.extend(span.rpc_status().map(str::to_owned));
    if let Some(outcome) = span.text("forebay.cache.outcome") {
        parts.push(format!("cache {outcome}"));
    }
    let sqlstate = span.text("db.response.status_code");
    parts.extend(sqlstate.map(|code| format!("sqlstate {code}")));
    let store = span.text("db.system.name").unwrap_or("db");
    if let Some(query) = span.text("db.query.text").or_else(|| span.text("db.operation.name")) {
        parts.push(format!("{store}: {}", one_line(query)));
    }
    if span.failed {
        let cause = [span.status_message.as_str(), span.text("error.type").unwrap_or_default()];
        parts.extend(cause.iter().find(|cause| !cause.is_empty()).map(|cause| one_line(cause)));
    }
    parts.join("  ")
}

fn one_line(text: &str) -> String {
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match joined.char_indices().nth(DETAIL_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &joined[..end]),
        None => joined,
    }
}
