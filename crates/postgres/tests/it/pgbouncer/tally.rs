//! What the clients of a process have seen.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay_postgres::{PgError, PgPoolStats};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Messages shown of each kind; a thousand would say the same.
const SHOWN_MAX: usize = 5;

/// Answers, and what was wrong with them. Clones share it.
#[derive(Clone)]
pub(super) struct Tally(Arc<Inner>);

struct Inner {
    started: Instant,
    answers: AtomicU64,
    rows: AtomicU64,
    slowest: Mutex<Duration>,
    errors: Mutex<Vec<String>>,
    wrong: Mutex<Vec<String>>,
}

impl Tally {
    pub(super) fn start() -> Self {
        Self(Arc::new(Inner {
            started: Instant::now(),
            answers: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            slowest: Mutex::default(),
            errors: Mutex::default(),
            wrong: Mutex::default(),
        }))
    }

    /// Waits for an answer and counts it; `None` when it was an error.
    pub(super) fn answer<'a, T>(
        &'a self,
        question: &'a str,
        answer: impl Future<Output = Result<T, PgError>> + 'a,
    ) -> impl Future<Output = Option<T>> + 'a {
        // On the heap at once, or the futures of the clients would grow large.
        let answer = Box::pin(answer);
        async move {
            let asked = Instant::now();
            let answer = answer.await;
            let mut slowest = self.0.slowest.lock();
            *slowest = asked.elapsed().max(*slowest);
            drop(slowest);
            match answer {
                Ok(answer) => {
                    self.0.answers.fetch_add(1, Ordering::Relaxed);
                    Some(answer)
                }
                Err(error) => {
                    let sqlstate = error.sqlstate().unwrap_or("none");
                    let text = format!("{question}: {sqlstate}: {}", chain(&error));
                    self.0.errors.lock().push(text);
                    None
                }
            }
        }
    }

    /// Compares what was answered with what is right.
    pub(super) fn check<T: PartialEq + std::fmt::Debug>(&self, question: &str, found: T, right: T) {
        if found != right {
            self.0.wrong.lock().push(format!("{question}: {found:?} instead of {right:?}"));
        }
    }

    /// Counts rows that were checked.
    pub(super) fn rows(&self, rows: usize) {
        self.0.rows.fetch_add(u64::try_from(rows).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Errors, each beginning with its question and SQLSTATE.
    pub(super) fn errors(&self) -> Vec<String> {
        self.0.errors.lock().clone()
    }

    /// Prints the numbers of `process` and some of what went wrong.
    pub(super) fn print(&self, process: &str, stats: &PgPoolStats) {
        let (errors, wrong) = (self.0.errors.lock(), self.0.wrong.lock());
        print(&format!(
            "{process}: {} connections, {} answers with {} rows in {:.1?}, slowest {:.1?}, \
             {} errors, {} wrong",
            stats.connections,
            self.0.answers.load(Ordering::Relaxed),
            self.0.rows.load(Ordering::Relaxed),
            self.0.started.elapsed(),
            *self.0.slowest.lock(),
            errors.len(),
            wrong.len(),
        ));
        for message in errors.iter().take(SHOWN_MAX).chain(wrong.iter().take(SHOWN_MAX)) {
            print(&format!("{process}: {message}"));
        }
    }

    /// Fails when something was wrong.
    pub(super) fn assert_all_right(&self) {
        let (errors, wrong) = (self.0.errors.lock().len(), self.0.wrong.lock().len());
        assert_eq!((errors, wrong), (0, 0), "errors and wrong answers, see above");
    }
}

/// An error and its causes.
pub(super) fn chain(error: &PgError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// The figures of a test, for whoever runs it with `--nocapture`.
#[expect(clippy::print_stdout, reason = "a test prints its figures")]
pub(super) fn print(line: &str) {
    println!("{line}");
}
