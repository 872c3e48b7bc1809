//! Everything that was written, and what each read was allowed to return.
//!
//! A row has one writer, so its writes come one after the other, and their versions grow in that
//! order. Times are of one clock, that of the test: a write was committed before it was answered,
//! and a read began after it was sent.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Every read contains what was committed longer than this before it began.
pub(crate) const BOUND: Duration = Duration::from_secs(1);
/// Writes that are kept of a row: some seconds of them, far more than the bound.
const WRITES_KEPT: usize = 256;
/// Reads that are kept of a row, to be shown with a violation.
const READS_KEPT: usize = 24;
/// Violations that are told in full.
const TOLD_MAX: usize = 5;

/// The rows and what happened to them.
pub(crate) struct Ledger {
    started_at: Instant,
    rows: Vec<Mutex<Row>>,
    told: Mutex<Vec<String>>,
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) violations: AtomicU64,
    /// Reads that were older than an earlier one of the same replica. They may be, within the bound.
    pub(crate) regressions: AtomicU64,
    /// Reads of rows that their readers had seen before, and said so.
    pub(crate) session_reads: AtomicU64,
    /// Microseconds that a write had been committed for when a read began that did not contain it,
    /// the most of all reads.
    slowest_us: AtomicU64,
}

#[derive(Default)]
struct Row {
    /// Those that were answered, in their order.
    writes: VecDeque<Write>,
    /// When a deletion was sent that is not answered yet.
    deleting_since: Option<Instant>,
    reads: VecDeque<Read>,
    newest_read: [Option<(Instant, i64)>; 8],
}

#[derive(Debug, Clone, Copy)]
struct Write {
    version: i64,
    is_deletion: bool,
    sent_at: Instant,
    answered_at: Instant,
    /// The replica that wrote it, if it was not plain SQL.
    through: Option<usize>,
}

/// A read of a row by a replica.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Read {
    pub(crate) replica: usize,
    pub(crate) began_at: Instant,
    pub(crate) ended_at: Instant,
    /// A version of the row, or that there is no such row.
    pub(crate) returned: Option<i64>,
    /// The highest version of the row that the reader has seen, if he said so when he asked.
    pub(crate) seen: Option<i64>,
}

impl Ledger {
    pub(crate) fn new(rows: usize) -> Self {
        Self {
            started_at: Instant::now(),
            rows: (0..rows).map(|_| Mutex::default()).collect(),
            told: Mutex::default(),
            reads: AtomicU64::default(),
            writes: AtomicU64::default(),
            violations: AtomicU64::default(),
            regressions: AtomicU64::default(),
            session_reads: AtomicU64::default(),
            slowest_us: AtomicU64::default(),
        }
    }

    /// A deletion is about to be sent.
    pub(crate) fn deleting(&self, row: usize) {
        self.rows[row].lock().deleting_since = Some(Instant::now());
    }

    /// A write was answered with the version that it made.
    pub(crate) fn wrote(
        &self,
        row: usize,
        version: i64,
        is_deletion: bool,
        sent_at: Instant,
        through: Option<usize>,
    ) {
        let answered_at = Instant::now();
        let mut row = self.rows[row].lock();
        if is_deletion {
            row.deleting_since = None;
        }
        if row.writes.len() >= WRITES_KEPT {
            row.writes.pop_front();
        }
        row.writes.push_back(Write { version, is_deletion, sent_at, answered_at, through });
        self.writes.fetch_add(1, Relaxed);
    }

    /// Judges a read of `row`.
    pub(crate) fn read(&self, row: usize, read: Read) {
        let Read { replica, began_at, ended_at, returned, seen } = read;
        self.session_reads.fetch_add(u64::from(seen.is_some()), Relaxed);
        self.reads.fetch_add(1, Relaxed);
        let mut place = self.rows[row].lock();
        if let (Some(version), Some(newest)) = (returned, place.newest_read.get_mut(replica)) {
            if newest.is_some_and(|(at, newest)| at <= began_at && version < newest) {
                self.regressions.fetch_add(1, Relaxed);
            }
            if newest.is_none_or(|(_, newest)| version >= newest) {
                *newest = Some((ended_at, version));
            }
        }
        if let Some(behind) = behind(&place, &read) {
            let micros = u64::try_from(behind.as_micros()).unwrap_or(u64::MAX);
            self.slowest_us.fetch_max(micros, Relaxed);
        }
        if let Some(what) = judge(&place, &read) {
            self.violations.fetch_add(1, Relaxed);
            let mut told = self.told.lock();
            if told.len() < TOLD_MAX {
                told.push(self.history(row, &place, what, &read));
            }
        }
        if place.reads.len() >= READS_KEPT {
            place.reads.pop_front();
        }
        place.reads.push_back(read);
    }

    /// How long a write had been committed when a read began that did not contain it, at most. What
    /// a read may miss of its own replica's writes is nothing; of others', up to the bound.
    pub(crate) fn slowest(&self) -> Duration {
        Duration::from_micros(self.slowest_us.load(Relaxed))
    }

    /// The violations, the first few with the history of their rows.
    pub(crate) fn told(&self) -> String {
        self.told.lock().join("\n")
    }

    /// Reads and writes so far.
    pub(crate) fn operations(&self) -> u64 {
        self.reads.load(Relaxed) + self.writes.load(Relaxed)
    }

    fn time(&self, instant: Instant) -> String {
        format!("{:9.4}", instant.saturating_duration_since(self.started_at).as_secs_f64())
    }

    fn line(&self, read: &Read) -> String {
        let Read { replica, began_at, ended_at, returned, seen } = read;
        let seen = seen.map_or_else(String::new, |seen| format!(", after version {seen}"));
        let returned =
            returned.map_or_else(|| "no row".to_owned(), |version| format!("version {version}"));
        let (began, ended) = (self.time(*began_at), self.time(*ended_at));
        format!("  {began} to {ended}: replica {replica} returned {returned}{seen}")
    }

    fn history(&self, number: usize, row: &Row, what: &str, read: &Read) -> String {
        let mut text = format!("row {number}: {what}\n{}\n", self.line(read));
        for Write { version, is_deletion, sent_at, answered_at, through } in
            row.writes.iter().rev().take(READS_KEPT).rev()
        {
            let kind = if *is_deletion { "deleted" } else { "written" };
            let through = through.map_or_else(|| "SQL".to_owned(), |n| format!("replica {n}"));
            // Writing to a string cannot fail.
            let _infallible = writeln!(
                text,
                "  {} to {}: version {version} {kind} by {through}",
                self.time(*sent_at),
                self.time(*answered_at)
            );
        }
        for read in &row.reads {
            let _infallible = writeln!(text, "{}", self.line(read));
        }
        text
    }
}

/// How long the oldest write that a read does not contain had been committed when it began.
fn behind(row: &Row, read: &Read) -> Option<Duration> {
    // Of a row that was not found nobody knows which of its deletions was seen: the last one.
    let is_unseen = |write: &&Write| match read.returned {
        Some(version) => write.version > version,
        None => !write.is_deletion && row.deleting_since.is_none(),
    };
    let oldest = row.writes.iter().rev().take_while(is_unseen).last()?;
    read.began_at.checked_duration_since(oldest.answered_at)
}

/// What is wrong with a read, if something is.
fn judge(row: &Row, read: &Read) -> Option<&'static str> {
    let Read { replica, began_at, ended_at, returned, seen } = *read;
    if let Some(seen) = seen {
        let is_older =
            returned.map_or_else(|| !may_be_gone(row, seen, ended_at), |version| version < seen);
        let is_write = row.writes.iter().any(|it| it.version == seen && it.through.is_some());
        match (is_older, is_write) {
            (false, _) => {}
            (true, true) => return Some("a session did not see its own write"),
            (true, false) => return Some("a session went back in time"),
        }
    }
    // A replica contains its own writes at once, and those of others within the bound.
    let belongs = |write: &&Write| {
        let bound = if write.through == Some(replica) { Duration::ZERO } else { BOUND };
        write.answered_at + bound <= began_at
    };
    let floor = row.writes.iter().rev().find(belongs)?;
    let is_own = floor.through == Some(replica);
    match returned {
        Some(version) if version >= floor.version => None,
        Some(_) if floor.is_deletion => Some("a deleted row came back"),
        Some(_) if is_own => Some("a replica did not see its own write"),
        Some(_) => Some("the row was older than the bound allows"),
        None if floor.is_deletion => None,
        // It existed. It may have been deleted since.
        None => {
            let may_be = may_be_gone(row, floor.version, ended_at);
            (!may_be).then_some("a row that exists was not found")
        }
    }
}

/// Whether a row that existed in this version may have been deleted since.
fn may_be_gone(row: &Row, version: i64, ended_at: Instant) -> bool {
    let deleted = row
        .writes
        .iter()
        .any(|write| write.is_deletion && write.version > version && write.sent_at <= ended_at);
    deleted || row.deleting_since.is_some_and(|sent_at| sent_at <= ended_at)
}

#[cfg(test)]
mod tests {
    //! The judge is judged: time is tokio's, so the tests move it.

    use super::*;

    /// Fails when the checker itself lets a violation pass or sees one where there is none.
    #[tokio::test(start_paused = true)]
    async fn reads_are_judged_by_what_was_written() {
        let ledger = Ledger::new(1);
        let violations = || ledger.violations.load(Relaxed);
        let read = |replica, returned| {
            let (before, now) = (violations(), Instant::now());
            ledger.read(0, Read { replica, began_at: now, ended_at: now, returned, seen: None });
            violations() > before
        };
        assert!(!read(0, None), "nothing was written");
        ledger.wrote(0, 1, false, Instant::now(), None);
        assert!(!read(0, None), "within the bound");
        tokio::time::advance(BOUND).await;
        assert!(!read(0, Some(1)) && read(0, None));
        ledger.wrote(0, 2, false, Instant::now(), Some(1));
        assert!(!read(0, Some(1)), "others may be behind");
        assert!(read(1, Some(1)), "its own write");
        tokio::time::advance(BOUND).await;
        assert!(read(0, Some(1)) && !read(0, Some(2)));
        ledger.deleting(0);
        assert!(!read(0, None), "it is being deleted");
        ledger.wrote(0, 3, true, Instant::now(), None);
        assert!(!read(0, Some(2)) && !read(0, None));
        tokio::time::advance(BOUND).await;
        assert!(read(0, Some(2)), "it came back");
        assert!(!read(0, None) && !read(0, Some(4)), "it may have been created again");
        let after = |seen, returned| {
            let (before, now) = (violations(), Instant::now());
            let seen = Some(seen);
            ledger.read(0, Read { replica: 0, began_at: now, ended_at: now, returned, seen });
            violations() > before
        };
        ledger.wrote(0, 5, false, Instant::now(), Some(1));
        ledger.wrote(0, 6, false, Instant::now(), None);
        assert!(!after(5, Some(5)) && !after(4, Some(5)), "within the bound, and seen");
        assert!(after(5, Some(4)) && after(6, Some(5)) && after(6, None));
        assert_eq!(ledger.slowest(), BOUND, "the slowest is one that was too slow");
        let told = ledger.told();
        assert!(
            told.contains("a deleted row came back")
                && told.contains("a session did not see its own write")
                && told.contains("version 3 deleted by SQL")
        );
    }
}
