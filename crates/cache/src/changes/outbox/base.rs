//! Where a reader of the outbox stands, and whether it can go on from there. No I/O.

use std::str::FromStr;

use super::REACH_MAX;

/// A transaction id that never wraps around (`xid8`).
pub(crate) type Xid = u64;

/// What a statement could see: `pg_snapshot`, as `xmin:xmax:xip,xip`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    text: String,
    xmax: Xid,
    running: Vec<Xid>,
}

impl Snapshot {
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a transaction that has committed by now was visible. The statement that asks for
    /// changes is written by the same rule.
    #[cfg(test)]
    pub(crate) fn sees(&self, xid: Xid) -> bool {
        xid < self.xmax && !self.running.contains(&xid)
    }
}

/// The text is no snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text is not a snapshot")]
pub(crate) struct NotASnapshot;

impl FromStr for Snapshot {
    type Err = NotASnapshot;

    fn from_str(text: &str) -> Result<Self, NotASnapshot> {
        let mut parts = text.split(':');
        let mut number = || -> Option<Xid> { parts.next()?.parse().ok() };
        let (Some(_xmin), Some(xmax)) = (number(), number()) else {
            return Err(NotASnapshot);
        };
        let running = match parts.next() {
            Some("") => Vec::new(),
            Some(list) => list
                .split(',')
                .map(str::parse)
                .collect::<Result<_, _>>()
                .map_err(|_not_a_number| NotASnapshot)?,
            None => return Err(NotASnapshot),
        };
        if parts.next().is_some() {
            return Err(NotASnapshot);
        }
        Ok(Self { text: text.to_owned(), xmax, running })
    }
}

/// A point from which changes can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) snapshot: Snapshot,
    /// Cluster, timeline and database. Another one has other transactions by the same ids.
    pub(crate) history: String,
    /// Seconds, by the clock of the database.
    pub(crate) taken_at: i64,
    pub(crate) start: Start,
}

/// What the control file says about the last start of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Start {
    /// The newest checkpoint, or the time of the start where checkpoints do not tell.
    pub(crate) checkpoint: String,
    /// Whether it was taken while nothing ran: when the server was stopped, or came back.
    pub(crate) is_quiet: bool,
    /// The first id that was free at that checkpoint.
    pub(crate) next_xid: Xid,
}

/// Why nobody can say what has changed since a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gap {
    /// Another cluster, database or timeline: a promoted server, or a restored one.
    OtherHistory,
    /// The server has forgotten transactions that the base saw, so their ids are used again.
    LostTransactions,
    /// Changes may have been deleted since.
    TooOld,
}

impl Gap {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::OtherHistory => "other_history",
            Self::LostTransactions => "lost_transactions",
            Self::TooOld => "too_old",
        }
    }
}

impl Base {
    /// The base as it is kept in Redis.
    pub(crate) fn to_claim(&self) -> String {
        let Self { snapshot, history, taken_at, start } = self;
        format!("1 {taken_at} {history} {} {}", start.checkpoint, snapshot.as_str())
    }

    /// A base that was kept in Redis, as far as one needs to know it to go on from there.
    pub(crate) fn of_claim(text: &str) -> Option<Self> {
        let parts: Vec<_> = text.split(' ').collect();
        let ["1", taken_at, history, checkpoint, snapshot] = parts.as_slice() else {
            return None;
        };
        let start =
            Start { checkpoint: (*checkpoint).to_owned(), is_quiet: false, next_xid: Xid::MAX };
        Some(Self {
            snapshot: snapshot.parse().ok()?,
            history: (*history).to_owned(),
            taken_at: taken_at.parse().ok()?,
            start,
        })
    }

    /// What lies between this base and a later one, if the outbox cannot tell.
    ///
    /// After a crash the server hands out again the ids of transactions whose end it had not
    /// written to its log. A base that saw such an id would take the new transaction for one it
    /// knows. The checkpoint of the start tells which ids are free again.
    pub(crate) fn gap_to(&self, now: &Self) -> Option<Gap> {
        if self.history != now.history {
            return Some(Gap::OtherHistory);
        }
        let restarted = now.start.is_quiet && now.start.checkpoint != self.start.checkpoint;
        if now.snapshot.xmax < self.snapshot.xmax
            || (restarted && now.start.next_xid < self.snapshot.xmax)
        {
            return Some(Gap::LostTransactions);
        }
        let age = now.taken_at.saturating_sub(self.taken_at);
        let reach = i64::try_from(REACH_MAX.as_secs()).unwrap_or(i64::MAX);
        (age > reach).then_some(Gap::TooOld)
    }
}

#[cfg(test)]
mod tests {
    //! What follows from two bases.

    use super::*;

    fn base(snapshot: &str) -> Base {
        Base {
            snapshot: snapshot.parse().expect("a snapshot"),
            history: "1/00000001/5".to_owned(),
            taken_at: 1_000_000,
            start: Start { checkpoint: "0/10".to_owned(), is_quiet: true, next_xid: 90 },
        }
    }

    #[test]
    fn a_snapshot_sees_what_had_ended() {
        let snapshot: Snapshot = "95:100:95,97".parse().expect("a snapshot");
        let seen: Vec<_> = (94..102).filter(|xid| snapshot.sees(*xid)).collect();
        assert_eq!(seen, [94, 96, 98, 99]);
        let idle: Snapshot = "100:100:".parse().expect("a snapshot");
        assert!(idle.sees(99) && !idle.sees(100));
        for text in ["", "1", "1:2", "1:2:x", "a:2:", "1:2:3:4"] {
            assert_eq!(text.parse::<Snapshot>(), Err(NotASnapshot), "{text:?}");
        }
    }

    #[test]
    fn a_base_survives_being_kept() {
        let kept = Base::of_claim(&base("95:100:95").to_claim()).expect("a base");
        assert_eq!(kept.gap_to(&base("95:100:95")), None);
        assert_eq!(kept.snapshot, base("95:100:95").snapshot);
        for text in ["", "1 2 3", "2 1 h c 1:1:", "1 x h c 1:1:", "1 1 h c x"] {
            assert_eq!(Base::of_claim(text), None, "{text:?}");
        }
    }

    /// Each line is one thing that can happen to a server between two questions.
    #[test]
    fn a_gap_is_found() {
        let prev = base("95:100:95");
        let checkpoint =
            |at: &str, is_quiet, next_xid| Start { checkpoint: at.to_owned(), is_quiet, next_xid };
        let now = || base("100:120:");
        let cases = [
            ("time went by", now(), None),
            ("an idle server", base("100:100:"), None),
            (
                "promoted",
                Base { history: "1/00000002/5".to_owned(), ..now() },
                Some(Gap::OtherHistory),
            ),
            ("ids went back", base("90:99:"), Some(Gap::LostTransactions)),
            (
                "crashed, and ids that were seen are used again",
                Base { start: checkpoint("0/20", true, 99), ..now() },
                Some(Gap::LostTransactions),
            ),
            (
                "crashed, and nothing that was seen is lost",
                Base { start: checkpoint("0/20", true, 100), ..now() },
                None,
            ),
            (
                "an ordinary checkpoint",
                Base { start: checkpoint("0/20", false, 99), ..now() },
                None,
            ),
            ("six hours", Base { taken_at: 1_000_000 + 6 * 3600, ..now() }, None),
            ("longer", Base { taken_at: 1_000_001 + 6 * 3600, ..now() }, Some(Gap::TooOld)),
            ("the clock went back", Base { taken_at: 0, ..now() }, None),
        ];
        for (what, now, expected) in cases {
            assert_eq!(prev.gap_to(&now), expected, "{what}");
        }
    }
}
