//! In which state a lane is, in the words of ioredis.

use parking_lot::Mutex;

/// Ordered from worst to best: a connection pool is in the state of its best lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LaneStatus {
    /// Closed for good.
    End,
    /// Not wanted by anyone yet.
    Wait,
    /// The connection was lost just now.
    Close,
    /// Between two attempts to connect.
    Reconnecting,
    /// An attempt to connect is under way.
    Connecting,
    /// The server accepted the connection; it is being prepared and checked.
    Connect,
    /// Finishes what is under way and takes nothing new.
    Draining,
    /// Commands can be sent.
    Ready,
}

impl LaneStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Wait => "wait",
            Self::Close => "close",
            Self::Reconnecting => "reconnecting",
            Self::Connecting => "connecting",
            Self::Connect => "connect",
            Self::Draining => "draining",
            Self::Ready => "ready",
        }
    }

    /// The state once nothing new is taken.
    pub(crate) fn draining(self) -> Self {
        match self {
            Self::End => Self::End,
            _ => Self::Draining,
        }
    }
}

/// The state of a lane, shared with the manager that opens its connections.
#[derive(Debug)]
pub(crate) struct StatusCell(Mutex<LaneStatus>);

impl StatusCell {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(LaneStatus::Wait))
    }

    pub(crate) fn get(&self) -> LaneStatus {
        *self.0.lock()
    }

    /// Nothing comes after the end.
    pub(crate) fn set(&self, status: LaneStatus) {
        let mut current = self.0.lock();
        if *current != LaneStatus::End {
            *current = status;
        }
    }
}
