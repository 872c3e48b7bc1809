//! What a transaction sees and may do.

/// How a transaction is opened. The default is READ COMMITTED with writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TxOptions {
    /// How much of other transactions it sees.
    pub isolation: Isolation,
    /// Whether the server refuses its writes.
    pub read_only: bool,
}

/// How much a transaction sees of those that run beside it (PostgreSQL manual, chapter 13.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Each statement sees what was committed before it began.
    #[default]
    ReadCommitted,
    /// Every statement sees what was committed before the first one.
    RepeatableRead,
    /// As if transactions ran one after the other.
    Serializable,
}

impl TxOptions {
    /// What [`PgPool::read`](crate::PgPool::read) uses: one state of the database for all statements.
    pub const SNAPSHOT: Self = Self { isolation: Isolation::RepeatableRead, read_only: true };

    /// With writes, as if transactions ran one after the other.
    pub const SERIALIZABLE: Self = Self { isolation: Isolation::Serializable, read_only: false };

    /// The statement that opens such a transaction.
    pub(crate) fn begin(self) -> &'static str {
        match (self.isolation, self.read_only) {
            (Isolation::ReadCommitted, false) => "BEGIN",
            (Isolation::ReadCommitted, true) => "BEGIN READ ONLY",
            (Isolation::RepeatableRead, false) => "BEGIN ISOLATION LEVEL REPEATABLE READ",
            (Isolation::RepeatableRead, true) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            (Isolation::Serializable, false) => "BEGIN ISOLATION LEVEL SERIALIZABLE",
            (Isolation::Serializable, true) => "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY",
        }
    }
}
