//! Statements for which Postgres itself needed long, by its own log.
//!
//! A lookup by key takes the server microseconds of work. If it says that one took 20 ms, its backend
//! stood still, and whoever had asked waited for that long, through whatever connection pool. It may be
//! the scheduler: where `kernel.sched_autogroup_enabled` is 1, each backend is a session and so
//! a group of its own, which on few processors may come late.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::Path;

use anyhow::Context as _;

/// What the server is to log, as SQL: statements of the role that the benches connect as.
pub(super) const LOG_THEM: &str = "ALTER ROLE CURRENT_USER SET log_min_duration_statement = '20ms'";

/// How often Postgres stood still during a bench.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Stalls {
    count: u32,
    longest_ms: f64,
}

impl Stalls {
    /// Those in the log from this byte on.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub(super) fn logged(log: &Path, from: u64) -> anyhow::Result<Self> {
        let read = || -> std::io::Result<Self> {
            let mut file = File::open(log)?;
            file.seek(SeekFrom::Start(from))?;
            let mut stalls = Self::default();
            for line in BufReader::new(file).split(b'\n') {
                stalls.count_line(&String::from_utf8_lossy(&line?));
            }
            Ok(stalls)
        };
        read().with_context(|| format!("read {}", log.display()))
    }

    /// For the page.
    pub(super) fn sentence(self) -> String {
        let Self { count, longest_ms } = self;
        if count == 0 {
            return "Postgres says that it needed less than 20 ms for every statement.".to_owned();
        }
        format!(
            "Postgres says that it needed 20 ms or more for {count} of the statements, \
             {longest_ms:.0} ms at most."
        )
    }

    /// Only what the drivers ask; tables are made with a simple query, which may take its time.
    fn count_line(&mut self, line: &str) {
        let Some((_, duration)) = line.split_once("LOG:  duration: ") else { return };
        let Some((millis, step)) = duration.split_once(" ms  ") else { return };
        let is_asked = ["parse ", "bind ", "execute "].iter().any(|asked| step.starts_with(asked));
        if let (true, Ok(millis)) = (is_asked, millis.parse::<f64>()) {
            self.count += 1;
            self.longest_ms = self.longest_ms.max(millis);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drivers_ask_counts_and_the_making_of_tables_does_not() {
        let mut stalls = Stalls::default();
        for line in [
            "2026-11-28 12:09:17 UTC [7] LOG:  duration: 30.537 ms  execute s1650: SELECT 1",
            "2026-11-28 12:10:17 UTC [8] LOG:  duration: 129.413 ms  bind s3: SELECT 1",
            "2026-11-28 12:10:17 UTC [8] LOG:  duration: 200.1 ms  statement: VACUUM",
            "\tLOG:  checkpoint starting: time",
        ] {
            stalls.count_line(line);
        }
        assert_eq!(stalls, Stalls { count: 2, longest_ms: 129.413 });
        assert!(stalls.sentence().contains("for 2 of the statements, 129 ms"), "{stalls:?}");
    }
}
