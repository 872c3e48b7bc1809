//! Lines for the person in front of the terminal.

use std::io::Write as _;
use std::time::Duration;

/// Writes one line to the standard output. A terminal that was closed is no reason to stop: what
/// is under way (a teardown, most of all) must come to its end.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _closed = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Writes one line to the standard error, under the same rule.
pub(crate) fn warn(text: &str) {
    let _closed = writeln!(std::io::stderr(), "{text}");
}

/// A duration as a person says it.
pub(crate) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds >= 60 {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_to_read() {
        let cases = [(0, "0.0 s"), (1_540, "1.5 s"), (59_900, "59.9 s"), (61_000, "1 min 01 s")];
        for (millis, expected) in cases {
            assert_eq!(time(Duration::from_millis(millis)), expected);
        }
    }
}
