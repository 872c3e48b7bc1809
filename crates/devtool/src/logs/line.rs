//! One line of a log: its time, its level, its process.

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Detail.
    Debug,
    /// What happens.
    Info,
    /// What should not happen.
    Warn,
    /// What failed.
    Error,
}

impl Level {
    /// Reads the name of a level.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "trace" | "debug" => Some(Self::Debug),
            "info" => Some(Self::Info),
            "warn" | "warning" => Some(Self::Warn),
            "error" => Some(Self::Error),
            _ => None,
        }
    }
}

/// The level of a line, as our services, Postgres and Redis write it; `None` for a line that goes
/// on from the one before.
pub(crate) fn level_of(line: &str) -> Option<Level> {
    const WORDS_MAX: usize = 6;
    // Only the head of a line: a message may well speak of an ERROR.
    for word in line.split_whitespace().take(WORDS_MAX) {
        let level = match word {
            "TRACE" | "DEBUG" | "DEBUG1:" | "DEBUG2:" => Level::Debug,
            "INFO" | "LOG:" | "INFO:" | "NOTICE:" | "HINT:" | "*" => Level::Info,
            "WARN" | "WARNING:" | "#" => Level::Warn,
            "ERROR" | "ERROR:" | "FATAL:" | "PANIC:" | "DETAIL:" => Level::Error,
            "." | "-" => Level::Debug,
            _ => continue,
        };
        return Some(level);
    }
    let (_, rest) = line.split_once("\"level\":\"")?;
    Level::parse(rest.split('"').next()?)
}

/// A line as it is shown among those of other processes.
pub(crate) fn with_name(name: &str, text: &str) -> String {
    format!("{name:<12} | {text}")
}

/// A stored line without the time at which it arrived.
pub(crate) fn without_time(stamped: &str) -> &str {
    stamped.split_once(' ').map_or(stamped, |(_, text)| text)
}

/// The time at which a stored line arrived.
pub(crate) fn time(stamped: &str) -> &str {
    stamped.split_once(' ').map_or(stamped, |(time, _)| time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_in_every_dialect() {
        let cases = [
            ("2026-11-23T05:00:00.1Z  INFO forebay_boot: started", Some(Level::Info)),
            ("2026-11-23T05:00:00.1Z ERROR forebay: lost", Some(Level::Error)),
            (r#"{"timestamp":"x","level":"WARN","message":"m"}"#, Some(Level::Warn)),
            ("2026-11-23 05:00:00.1 UTC [7] LOG:  checkpoint", Some(Level::Info)),
            ("2026-11-23 05:00:00.1 UTC [7] FATAL:  no", Some(Level::Error)),
            ("7:M 23 Nov 2026 05:00:00.1 # Warning", Some(Level::Warn)),
            ("7:M 23 Nov 2026 05:00:00.1 * Ready", Some(Level::Info)),
            ("    at some line", None),
            ("", None),
        ];
        for (line, expected) in cases {
            assert_eq!(level_of(line), expected, "{line}");
        }
    }

    #[test]
    fn a_stored_line_falls_into_time_and_text() {
        let stored = "2026-11-23T05:00:00.123Z   indented text";
        assert_eq!(time(stored), "2026-11-23T05:00:00.123Z");
        assert_eq!(without_time(stored), "  indented text");
    }
}
