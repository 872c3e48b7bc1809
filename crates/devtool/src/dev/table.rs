//! The table that `dev` and `status` print, and the first things to type.

use crate::state::{Backend, Health, State, redacted};
use crate::workspace::DEFAULT_INSTANCE;

/// USDC, which is in the seed data.
const EXAMPLE_MINT: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";

/// The table, the ports that moved, and first calls.
pub(crate) fn lines(state: &State, moved: &[String]) -> Vec<String> {
    let mut lines = vec![String::new()];
    lines.extend(table(state));
    lines.extend(moved.iter().map(|line| format!("  moved  {line}")));
    lines.push(String::new());
    lines.extend(first_calls(state));
    lines.push(String::new());
    lines
}

/// One row for each part.
pub(crate) fn table(state: &State) -> Vec<String> {
    let mut rows = vec![["NAME", "STATE", "ADDRESS", "OPS", "PID", "FROM"].map(str::to_owned)];
    for service in &state.services {
        let restarts = match service.restarts {
            0 => "built".to_owned(),
            1 => "built, restarted once".to_owned(),
            n => format!("built, restarted {n} times"),
        };
        rows.push([
            service.name.clone(),
            service.state.name().to_owned(),
            service.grpc.clone().unwrap_or_default(),
            service.ops.clone().unwrap_or_default(),
            service.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            restarts,
        ]);
    }
    let backends = &state.backends;
    rows.push(backend_row("postgres", &backends.postgres, state));
    rows.push(backend_row("redis", &backends.redis, state));
    let traces = &backends.traces;
    rows.push([
        "traces".to_owned(),
        backend_state(traces.otlp.is_some(), state).name().to_owned(),
        traces.otlp.clone().unwrap_or_default(),
        traces.query.clone().unwrap_or_default(),
        String::new(),
        traces.source.clone().unwrap_or_default(),
    ]);
    align(&rows)
}

fn backend_row(name: &str, backend: &Backend, state: &State) -> [String; 6] {
    [
        name.to_owned(),
        backend_state(backend.url.is_some(), state).name().to_owned(),
        backend.url.as_deref().map(redacted).unwrap_or_default(),
        String::new(),
        backend.pid.map(|pid| pid.to_string()).unwrap_or_default(),
        backend.source.clone().unwrap_or_default(),
    ]
}

fn backend_state(known: bool, state: &State) -> Health {
    match (known, state.is_running()) {
        (true, true) => Health::Ready,
        (false, true) => Health::Starting,
        (_, false) => Health::Stopped,
    }
}

/// Rows with their columns under each other, indented.
pub(crate) fn align<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> Vec<String> {
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let line = |row: &[String; COLUMNS]| {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("  {}", cells.join("  ")).trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn first_calls(state: &State) -> Vec<String> {
    let flag = if state.instance == DEFAULT_INSTANCE {
        String::new()
    } else {
        format!(" --instance {}", state.instance)
    };
    let grpc = |name: &str| state.service(name)?.grpc.clone();
    let mut lines = vec!["  First calls:".to_owned()];
    if let Some(address) = grpc("token-server") {
        let method = "forebay.token.v1.TokenService/LookupToken";
        let body = format!("{{\"mint\":\"{EXAMPLE_MINT}\"}}");
        lines.push(format!("    cargo xtask call{flag} --trace {method} '{body}'"));
        lines.push(format!(
            "    buf curl --protocol grpc --http2-prior-knowledge -d '{body}' http://{address}/{method}"
        ));
    }
    if state.backends.traces.query.is_none() {
        lines.push(format!("    cargo xtask trace ls{flag}"));
    }
    lines.push(format!("    eval \"$(cargo xtask env{flag})\"; psql \"$DATABASE_URL\""));
    lines.push(format!("    cargo xtask status{flag} | logs{flag} -f | down{flag}"));
    lines
}

#[cfg(test)]
mod tests {
    use super::align;

    #[test]
    fn columns_line_up_and_lines_end_clean() {
        let row = |cells: [&str; 6]| cells.map(str::to_owned);
        let rows = [row(["A", "B", "C", "D", "E", "F"]), row(["aaa", "b", "", "d", "", ""])];
        assert_eq!(align(&rows), ["  A    B  C  D  E  F", "  aaa  b     d"]);
    }
}
