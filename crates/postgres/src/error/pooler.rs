//! The refusals of poolers, which use SQLSTATEs of their own choice and are told by their words.
//!
//! Sources: pgbouncer 1.18 to 1.25, `disconnect_client` and `send_pooler_error` in its sources;
//! Supavisor documentation, "Error codes".

/// Words of a pooler, and the name under which we report them.
const WORDS: [(&str, &str); 15] = [
    ("no more connections allowed", "max_client_conn"),
    ("query_wait_timeout", "query_wait_timeout"),
    ("server login failed", "server_login_failed"),
    ("server login has been failing", "server_login_retry"),
    ("client_login_timeout", "client_login_timeout"),
    ("pgbouncer cannot connect to server", "server_unreachable"),
    // It is a transaction pooler, and the url or `postgres.mode` does not say so.
    ("unsupported startup parameter", "unsupported_startup_parameter"),
    ("ECHECKOUTTIMEOUT", "ECHECKOUTTIMEOUT"),
    // Before EMAXCONN, which it begins with.
    ("EMAXCONNSESSION", "EMAXCONNSESSION"),
    ("EMAXCONN", "EMAXCONN"),
    ("ECIRCUITBREAKER", "ECIRCUITBREAKER"),
    ("ESSLREQUIRED", "ESSLREQUIRED"),
    ("EPREPAREDDUP", "EPREPAREDDUP"),
    // Supavisor before it had codes.
    ("MaxClientsInSessionMode", "EMAXCONNSESSION"),
    ("Max client connections reached", "EMAXCONN"),
];

/// What a pooler refused, if `message` is one of its refusals.
///
/// They begin the message, or stand in brackets at its start: a statement that mentions one of
/// these words in an error of its own must not be taken for a refusal.
pub(super) fn code(message: &str) -> Option<&'static str> {
    let message = message.trim_start_matches(['(', '[']);
    WORDS.iter().find(|(words, _)| message.starts_with(words)).map(|(_, code)| *code)
}

#[cfg(test)]
mod tests {
    //! Messages as poolers send them.

    use super::code;

    #[test]
    fn refusals_are_told_apart() {
        let cases = [
            ("no more connections allowed (max_client_conn)", Some("max_client_conn")),
            ("query_wait_timeout", Some("query_wait_timeout")),
            ("server login failed: FATAL password authentication", Some("server_login_failed")),
            ("server login has been failing, try again later", Some("server_login_retry")),
            ("unsupported startup parameter: options", Some("unsupported_startup_parameter")),
            ("(ECHECKOUTTIMEOUT) unable to check out connection", Some("ECHECKOUTTIMEOUT")),
            ("(EMAXCONNSESSION) max clients reached in session mode", Some("EMAXCONNSESSION")),
            ("(EMAXCONN) max client connections reached", Some("EMAXCONN")),
            ("(ECIRCUITBREAKER) too many failures", Some("ECIRCUITBREAKER")),
            ("(ESSLREQUIRED) SSL connection is required", Some("ESSLREQUIRED")),
            ("(EPREPAREDDUP) prepared statement already exists", Some("EPREPAREDDUP")),
            ("MaxClientsInSessionMode: max clients reached", Some("EMAXCONNSESSION")),
            ("column \"query_wait_timeout\" does not exist", None),
            ("sorry, too many clients already", None),
        ];
        for (message, expected) in cases {
            assert_eq!(code(message), expected, "{message}");
        }
    }
}
