//! Errors as callers meet them.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::NoTls;

use super::PgError;

/// The driver keeps the kind of its errors private and we go by its words; this fails when an
/// update of the driver changes them.
#[tokio::test]
async fn a_refused_handshake_is_recognised() {
    let (ours, mut theirs) = tokio::io::duplex(64);
    let server = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut request = [0; 8];
        theirs.read_exact(&mut request).await?;
        theirs.write_all(b"N").await?;
        io::Result::Ok(theirs)
    });
    let mut config = tokio_postgres::Config::new();
    config.user("u").ssl_mode(tokio_postgres::config::SslMode::Require);
    let error = config.connect_raw(ours, NoTls).await.err().expect("no TLS there");
    let error = PgError::from_connect("h:1", error);
    assert!(matches!(error, PgError::Tls { .. }), "{error:?}");
    server.await.expect("the server task ends").expect("the server can write");
}

#[tokio::test]
async fn a_lost_connection_is_recognised() {
    let (ours, theirs) = tokio::io::duplex(64);
    drop(theirs);
    let mut config = tokio_postgres::Config::new();
    config.user("u");
    let error = config.connect_raw(ours, NoTls).await.err().expect("nobody there");
    assert!(matches!(PgError::from(error), PgError::ConnectionLost { .. }));
}

/// Who prints the chain of an error must not read every cause twice.
#[test]
fn display_does_not_repeat_the_source() {
    let source = Arc::new(io::Error::other("connection refused"));
    let error = PgError::Unreachable { address: "h:1".to_owned(), source };
    assert_eq!(error.to_string(), "postgres at h:1 cannot be reached");
    assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("connection refused"));
}

#[test]
fn unavailable_errors_say_when_to_come_back() {
    let source = || Arc::new(io::Error::other("x"));
    let waited = Duration::from_millis(5);
    for error in [
        PgError::Shed { waiting: 1, predicted: None },
        PgError::Pooler { code: "EMAXCONN", source: source() },
        PgError::Timeout { waited, in_use: 1, limbo: 0, holders: Vec::new() },
        PgError::Draining,
        PgError::ServerSlots { source: source() },
        PgError::UnknownOutcome { source: source() },
    ] {
        assert!(error.is_unavailable() && error.retry_after().is_some(), "{error}");
    }
    let error = PgError::UniqueViolation { constraint: "c".to_owned(), source: source() };
    assert!(!error.is_unavailable() && error.retry_after().is_none());
}
