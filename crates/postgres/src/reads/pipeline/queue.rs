//! Statements that wait for room, and how much room there is.

use std::collections::VecDeque;

use crate::PgError;
use crate::reads::pipeline::DEPTH_MAX;
use crate::reads::pipeline::job::Job;

/// First in, first out.
pub(super) struct Queue {
    jobs: VecDeque<Job>,
    /// Statements that the pipes together could send now.
    room: usize,
    pipes_max: usize,
    waiting_max: usize,
    stats: PipelineStats,
}

/// State of the shared reads of one connection pool at one moment, with its counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PipelineStats {
    /// Tasks that share a connection among statements.
    pub pipes: usize,
    /// Statements sent and not answered.
    pub in_flight: usize,
    /// Statements not sent.
    pub waiting: usize,
    /// Statements sent so far.
    pub sent: u64,
    /// Statements refused because too many waited.
    pub shed: u64,
}

impl Queue {
    pub(super) fn new(pipes_max: usize, waiting_max: usize) -> Self {
        Self {
            jobs: VecDeque::new(),
            room: 0,
            pipes_max,
            waiting_max,
            stats: PipelineStats::default(),
        }
    }

    /// `true` if one more pipe has to be started for it. It counts as started.
    pub(super) fn push(&mut self, job: Job) -> Result<bool, PgError> {
        if self.jobs.len() >= self.waiting_max {
            // Those who went away take no place from those who came.
            self.jobs.retain(|job| !job.is_abandoned());
        }
        if self.jobs.len() >= self.waiting_max {
            self.stats.shed += 1;
            return Err(PgError::Shed { waiting: self.jobs.len(), predicted: None });
        }
        self.jobs.push_back(job);
        Ok(self.starts())
    }

    /// The next statement that somebody waits for. It counts as sent.
    pub(super) fn pop(&mut self) -> Option<Job> {
        loop {
            let job = self.jobs.pop_front()?;
            if !job.is_abandoned() {
                job.has_departed.set();
                self.stats.sent += 1;
                self.stats.in_flight += 1;
                self.room -= 1;
                return Some(job);
            }
        }
    }

    /// A statement was answered, or never will be.
    pub(super) fn answered(&mut self) {
        self.stats.in_flight -= 1;
        self.room += 1;
    }

    /// Whether more wait than the one who asks has taken.
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// A pipe takes no statements for now; `true` if one more has to be started, which counts as
    /// started.
    pub(super) fn withdraw(&mut self, room: usize) -> bool {
        self.room -= room;
        self.starts()
    }

    /// Undoes [`Queue::withdraw`].
    pub(super) fn offer(&mut self, room: usize) {
        self.room += room;
    }

    /// Counts a pipe with nothing under way out; `false` if there is work for it.
    pub(super) fn may_end(&mut self) -> bool {
        let may = self.jobs.is_empty();
        if may {
            self.count_out();
        }
        may
    }

    /// Counts a pipe with nothing under way out; returns what no pipe is left to send.
    pub(super) fn end(&mut self) -> VecDeque<Job> {
        self.count_out();
        if self.stats.pipes == 0 { std::mem::take(&mut self.jobs) } else { VecDeque::new() }
    }

    fn count_out(&mut self) {
        self.stats.pipes -= 1;
        self.room -= DEPTH_MAX;
    }

    fn starts(&mut self) -> bool {
        let starts = self.jobs.len() > self.room && self.stats.pipes < self.pipes_max;
        if starts {
            self.stats.pipes += 1;
            self.room += DEPTH_MAX;
        }
        starts
    }

    pub(super) fn stats(&self) -> PipelineStats {
        PipelineStats { waiting: self.jobs.len(), ..self.stats }
    }
}
