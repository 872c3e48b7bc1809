//! The decisions on which the bound on staleness rests, without I/O: the product and the simulation
//! of it ask the same functions.

/// Whether the data set that answered has everything that this process relies on: the epoch it knows,
/// and all steps by which it made L2 right, the last of which moved the mark to `mark`.
pub(crate) fn is_known<E: PartialEq>(
    (epoch, mark): (E, u64),
    found_epoch: Option<E>,
    found_mark: Option<u64>,
) -> bool {
    found_epoch == Some(epoch) && found_mark.is_some_and(|found| found >= mark)
}

/// Whether an entry may be served: it was filled in the epoch that is in force, and it contains the
/// change of its row that this process still waits for, if there is one.
pub(crate) fn is_usable<E: PartialEq>(
    (epoch, waits_for): (E, Option<i64>),
    entry_epoch: E,
    entry_version: i64,
) -> bool {
    entry_epoch == epoch && waits_for.is_none_or(|version| entry_version >= version)
}

#[cfg(test)]
mod simulation;
