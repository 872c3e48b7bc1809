//! How much a read must see.

use std::time::Duration;

use super::Lsn;

/// How much a read must see, which decides who may answer it.
///
/// Without replicas every read goes to the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// Everything that was committed. Only the primary can answer.
    Primary,
    /// Everything up to this position: the writes whose token it is, and all before them.
    AtLeast(Lsn),
    /// The database as it was so long ago, or later. Below the interval at which replicas are
    /// looked at (half a second) it is nearly always the primary that answers.
    Lagging(Duration),
}
