//! Refusals of the server, as types.

use forebay_postgres::{PgError, Sql, ToSql};

use crate::support::{CREATE_TABLE, Fixture, INSERT, ms};

#[tokio::test]
async fn violations_name_their_constraint() {
    static SETUP: [(&str, &str); 2] = [
        ("CREATE TABLE parents", "CREATE TABLE parents (id bigint PRIMARY KEY)"),
        (
            "CREATE TABLE children",
            "CREATE TABLE children (parent bigint NOT NULL \
             CONSTRAINT children_parent REFERENCES parents, age int CONSTRAINT young CHECK (age < 9))",
        ),
    ];
    let it = Fixture::new(1).await;
    for (summary, text) in SETUP {
        it.postgres.execute(&Sql::new(summary, text), &[]).await.expect("a table");
    }
    let cases = [
        ("INSERT INTO parents VALUES (1), (1)", "unique_violation", "parents_pkey", "23505"),
        ("INSERT INTO children VALUES (7, 1)", "foreign_key_violation", "children_parent", "23503"),
        ("INSERT INTO children VALUES (7, 10)", "check_violation", "young", "23514"),
        ("INSERT INTO children VALUES (NULL, 1)", "check_violation", "parent", "23502"),
    ];
    for (text, kind, constraint, sqlstate) in cases {
        let sql = Sql::new("INSERT", text);
        let error = it.postgres.execute(&sql, &[]).await.expect_err("a violation");
        assert_eq!((error.kind(), error.sqlstate()), (kind, Some(sqlstate)), "{error:?}");
        let (PgError::UniqueViolation { constraint: named, .. }
        | PgError::ForeignKeyViolation { constraint: named, .. }
        | PgError::CheckViolation { constraint: named, .. }) = &error
        else {
            panic!("{error:?}");
        };
        assert_eq!(named, constraint);
    }
}

#[tokio::test]
async fn other_refusals_are_typed() {
    let it = Fixture::with(|config| config.statement_timeout = ms(100)).await;
    let cases = [
        ("SELECT 1/0", "database", Some("22012")),
        ("SELECT * FROM nowhere", "database", Some("42P01")),
        ("SELECT pg_sleep(9)", "statement_timeout", None),
        ("BEGIN", "session_statement", None),
        ("set statement_timeout = 0", "session_statement", None),
        ("SELECT $1::bigint", "mismatch", None),
    ];
    for (text, kind, sqlstate) in cases {
        let error = it.postgres.query(&Sql::new("SELECT", text), &[]).await.expect_err(text);
        assert_eq!(error.kind(), kind, "{text}: {error:?}");
        assert!(sqlstate.is_none() || error.sqlstate() == sqlstate, "{text}: {error:?}");
    }
    // Refused by the driver, so the outcome of the write is known.
    let sql = Sql::new("DELETE nothing", "DELETE FROM pg_class WHERE oid = $1");
    let text: [&(dyn ToSql + Sync); 1] = [&"text"];
    for parameters in [&[], &text[..]] {
        let error = it.postgres.execute(&sql, parameters).await.expect_err("a mismatch");
        assert_eq!(error.kind(), "mismatch", "{error:?}");
    }
    it.pid().await;
}

/// PostgreSQL answers COMMIT with a quiet ROLLBACK after a failed statement. Fails when that
/// counts as a commit.
#[tokio::test]
async fn a_failed_transaction_cannot_be_committed() {
    let it = Fixture::new(1).await;
    it.postgres.execute(&CREATE_TABLE, &[]).await.expect("a table");
    let mut tx = it.postgres.begin().await.expect("a transaction");
    tx.execute(&INSERT, &[&1_i64]).await.expect("a row");
    let twice = tx.execute(&INSERT, &[&1_i64]).await;
    assert!(matches!(twice, Err(PgError::UniqueViolation { .. })), "{twice:?}");
    let commit = tx.commit().await;
    assert!(matches!(commit, Err(PgError::TransactionFailed)), "{commit:?}");
    assert_eq!(it.count().await, 0);
}

#[tokio::test]
async fn two_transactions_that_collide_are_told_apart_from_mistakes() {
    static ISOLATE: Sql = Sql::new("UPDATE things", "UPDATE things SET id = id + 10 WHERE id = $1");
    let it = Fixture::new(2).await;
    it.postgres.execute(&CREATE_TABLE, &[]).await.expect("a table");
    for id in [1_i64, 2] {
        it.postgres.execute(&INSERT, &[&id]).await.expect("a row");
    }
    let (mut one, mut two) = (
        it.postgres.begin().await.expect("a transaction"),
        it.postgres.begin().await.expect("a transaction"),
    );
    one.execute(&ISOLATE, &[&1_i64]).await.expect("a lock");
    two.execute(&ISOLATE, &[&2_i64]).await.expect("a lock");
    let (first, second) =
        tokio::join!(one.execute(&ISOLATE, &[&2_i64]), two.execute(&ISOLATE, &[&1_i64]));
    let deadlock = first.and(second).expect_err("one of them is the victim");
    assert!(matches!(deadlock, PgError::Serialization { .. }), "{deadlock:?}");
    assert!(deadlock.retry_after().is_some());
}
