//! Work on the database as a whole: transactions, closures, and doing them again.

pub(crate) mod closures;
pub(crate) mod repeat;
pub(crate) mod retry;
pub(crate) mod sweeper;
pub(crate) mod transaction;
