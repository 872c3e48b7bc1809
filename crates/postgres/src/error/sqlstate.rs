//! What each SQLSTATE means to us: the only place that knows the codes.
//!
//! Source: PostgreSQL manual, appendix A "PostgreSQL Error Codes".

/// An administrator ended the session, or the server as a whole.
pub(super) const ADMIN_SHUTDOWN: &str = "57P01";

/// What a SQLSTATE means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// User or password refused.
    Auth,
    /// No such database, or it was dropped.
    UnknownDatabase,
    /// No connection slot left.
    ServerSlots,
    /// The server ended the session.
    ConnectionLost,
    /// The server starts up, shuts down or recovers.
    CannotConnectNow,
    /// The server itself does not know whether the statement completed.
    UnknownOutcome,
    /// Only reads are accepted.
    ReadOnly,
    /// Cancelled by a timeout or by an operator.
    StatementTimeout,
    /// A lock could not be had in time.
    LockTimeout,
    /// Unique constraint.
    Unique,
    /// Foreign key.
    ForeignKey,
    /// Check, not-null or exclusion constraint.
    Check,
    /// Serialization failure or deadlock: repeat the transaction.
    Serialization,
    /// A statement in a transaction that failed before.
    TransactionFailed,
    /// None of these: the statement itself is at fault.
    Other,
}

/// The meaning of `sqlstate`. A code not listed is the statement's own fault.
pub(super) fn classify(sqlstate: &str) -> Class {
    match sqlstate {
        "3D000" | "57P04" => Class::UnknownDatabase,
        "53300" => Class::ServerSlots,
        // Admin shutdown, crash of another backend, idle session, idle in transaction, transaction timeout.
        ADMIN_SHUTDOWN | "57P02" | "57P05" | "25P03" | "25P04" => Class::ConnectionLost,
        "57P03" => Class::CannotConnectNow,
        "08007" | "40003" => Class::UnknownOutcome,
        "25006" => Class::ReadOnly,
        "25P02" => Class::TransactionFailed,
        "57014" => Class::StatementTimeout,
        "55P03" => Class::LockTimeout,
        "23505" => Class::Unique,
        "23503" => Class::ForeignKey,
        "23502" | "23514" | "23P01" => Class::Check,
        "40001" | "40P01" => Class::Serialization,
        code if code.starts_with("28") => Class::Auth,
        code if code.starts_with("08") => Class::ConnectionLost,
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests {
    //! Codes that decide how a caller reacts.

    use super::{Class, classify};

    #[test]
    fn codes_have_their_meaning() {
        let cases = [
            ("28P01", Class::Auth),
            ("28000", Class::Auth),
            ("3D000", Class::UnknownDatabase),
            ("53300", Class::ServerSlots),
            ("53200", Class::Other),
            ("08006", Class::ConnectionLost),
            ("08007", Class::UnknownOutcome),
            ("57P01", Class::ConnectionLost),
            ("57P03", Class::CannotConnectNow),
            ("57014", Class::StatementTimeout),
            ("42P01", Class::Other),
        ];
        for (sqlstate, expected) in cases {
            assert_eq!(classify(sqlstate), expected, "{sqlstate}");
        }
    }
}
