//! Prepared statements and rows.

use forebay_postgres::{PgError, Sql, ToSql};

use crate::support::Fixture;

/// Fails without the bound: the server would keep 600 statements for the connection.
#[tokio::test]
async fn the_number_of_prepared_statements_is_bounded() {
    static PREPARED: Sql =
        Sql::new("SELECT pg_prepared_statements", "SELECT count(*) FROM pg_prepared_statements");
    let it = Fixture::new(1).await;
    for number in 0..600 {
        let sql = Sql::owned("SELECT number", format!("SELECT {number}"));
        let row = it.postgres.query_one(&sql, &[]).await.expect("a row");
        assert_eq!(row.get::<_, i32>(0), number);
    }
    let prepared: i64 = it.postgres.query_one(&PREPARED, &[]).await.expect("a row").get(0);
    assert!((200..=256).contains(&prepared), "{prepared} prepared statements");
}

/// Fails without the repetition after "cached plan must not change result type".
#[tokio::test]
async fn a_changed_table_is_read_again() {
    static CREATE: Sql = Sql::new("CREATE TABLE t", "CREATE TABLE t AS SELECT 1 AS a");
    static ALTER: Sql = Sql::new("ALTER TABLE t", "ALTER TABLE t ADD COLUMN b int DEFAULT 2");
    static ALL: Sql = Sql::new("SELECT t", "SELECT * FROM t");
    let it = Fixture::new(1).await;
    it.postgres.execute(&CREATE, &[]).await.expect("a table");
    assert_eq!(it.postgres.query_one(&ALL, &[]).await.expect("a row").len(), 1);
    it.postgres.execute(&ALTER, &[]).await.expect("a column");
    assert_eq!(it.postgres.query_one(&ALL, &[]).await.expect("a row").len(), 2);
}

/// Fails when a stale plan that shows inside a transaction is kept: every later transaction on the
/// connection would fail the same way.
#[tokio::test]
async fn a_changed_table_costs_one_transaction_at_most() {
    static CREATE: Sql = Sql::new("CREATE TABLE t", "CREATE TABLE t AS SELECT 1 AS a");
    static ALTER: Sql = Sql::new("ALTER TABLE t", "ALTER TABLE t ADD COLUMN b int DEFAULT 2");
    static ALL: Sql = Sql::new("SELECT t", "SELECT * FROM t");
    let it = Fixture::new(1).await;
    it.postgres.execute(&CREATE, &[]).await.expect("a table");
    it.postgres.query_one(&ALL, &[]).await.expect("a row");
    it.postgres.execute(&ALTER, &[]).await.expect("a column");
    let mut lost = it.postgres.begin().await.expect("a transaction");
    lost.query_one(&ALL, &[]).await.expect_err("the plan is of the old table");
    lost.rollback().await.expect("a rollback");
    let mut next = it.postgres.begin().await.expect("a transaction");
    assert_eq!(next.query_one(&ALL, &[]).await.expect("a row").len(), 2);
}

/// Fails when the server keeps a plan for all values.
#[tokio::test]
async fn a_statement_can_be_planned_each_time() {
    static GENERIC: Sql = Sql::new(
        "SELECT pg_prepared_statements",
        "SELECT coalesce(sum(generic_plans), 0)::bigint, count(*) FROM pg_prepared_statements \
         WHERE statement LIKE 'SELECT $1::bigint + %'",
    );
    static EACH: Sql = Sql::new("SELECT sum", "SELECT $1::bigint + 1").planned_each_time();
    static ONCE: Sql = Sql::new("SELECT sum", "SELECT $1::bigint + 2");
    let it = Fixture::new(1).await;
    for (sql, added, expected) in [(&EACH, 1, (0, 0)), (&ONCE, 2, (5, 1))] {
        for number in 0..10_i64 {
            let row = it.postgres.query_one(sql, &[&number]).await.expect("a row");
            assert_eq!(row.get::<_, i64>(0), number + added);
        }
        let row = it.postgres.query_one(&GENERIC, &[]).await.expect("a row");
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), expected);
    }
    let two: [&(dyn ToSql + Sync); 2] = [&1_i64, &2_i64];
    for parameters in [&[], &two[..]] {
        let outcome = it.postgres.query(&EACH, parameters).await;
        assert!(outcome.is_err(), "{outcome:?}");
    }
    it.postgres.query_one(&EACH, &[&1_i64]).await.expect("the connection is usable");
}

/// Fails when a name outlives its transaction: behind a pooler the next one may run on a server
/// connection that does not know it.
#[tokio::test]
async fn a_transaction_pooler_sees_no_named_statements() {
    static NAMED: Sql =
        Sql::new("SELECT pg_prepared_statements", "SELECT count(*) FROM pg_prepared_statements");
    static ADD: Sql = Sql::new("SELECT sum", "SELECT $1::bigint + $2::bigint");
    let it = Fixture::with(|config| {
        config.connections_max = 1;
        let url = format!("{}?pgbouncer=true", config.url.expose());
        config.url = forebay_config::Secret::new(url);
    })
    .await;
    for number in 0..5_i64 {
        let row = it.postgres.query_one(&ADD, &[&number, &1_i64]).await.expect("a row");
        assert_eq!(row.get::<_, i64>(0), number + 1);
        let named = it.postgres.query_one(&NAMED, &[]).await.expect("a row");
        assert_eq!(named.get::<_, i64>(0), 0);
        let mut tx = it.postgres.begin().await.expect("a transaction");
        tx.query_one(&ADD, &[&number, &1_i64]).await.expect("a row");
        tx.commit().await.expect("a commit");
    }
    assert_eq!(it.backends("idle in transaction%").await, 0);
}

#[tokio::test]
async fn the_number_of_rows_is_checked() {
    static ROWS: Sql = Sql::new("SELECT rows", "SELECT generate_series(1, $1::int)");
    let it = Fixture::new(1).await;
    for (rows, opt, one) in [(0, true, false), (1, true, true), (2, false, false)] {
        let parameters: [&(dyn ToSql + Sync); 1] = [&rows];
        let found = it.postgres.query_opt(&ROWS, &parameters).await;
        assert_eq!(found.is_ok(), opt, "{rows} rows: {found:?}");
        let found = it.postgres.query_one(&ROWS, &parameters).await;
        assert_eq!(found.is_ok(), one, "{rows} rows: {found:?}");
        if let Err(error) = found {
            assert!(matches!(error, PgError::RowCount { .. }), "{error:?}");
        }
    }
}

#[tokio::test]
async fn what_is_committed_stays() {
    static CREATE: Sql = Sql::new("CREATE TABLE t", "CREATE TABLE t (a int)");
    static ADD: Sql = Sql::new("INSERT t", "INSERT INTO t VALUES ($1) RETURNING a");
    static SUM: Sql = Sql::new("SELECT t", "SELECT sum(a) FROM t");
    let it = Fixture::new(2).await;
    it.postgres.execute(&CREATE, &[]).await.expect("a table");
    let mut tx = it.postgres.begin().await.expect("a transaction");
    assert_eq!(tx.execute(&ADD, &[&1]).await.expect("a row"), 1);
    assert_eq!(tx.query_one(&ADD, &[&2]).await.expect("a row").get::<_, i32>(0), 2);
    tx.commit().await.expect("a commit");
    assert_eq!(it.postgres.query_one(&ADD, &[&4]).await.expect("a row").get::<_, i32>(0), 4);
    assert_eq!(it.postgres.query_one(&SUM, &[]).await.expect("a row").get::<_, i64>(0), 7);
}

/// Fails when the driver asks for the type: its names would stay on a server connection that the
/// next transaction may not get, and many rows of such a type hang for good.
#[tokio::test]
async fn behind_a_transaction_pooler_a_type_of_its_own_is_refused() {
    static SETUP: [&str; 3] = [
        "CREATE TYPE mood AS ENUM ('calm', 'wild')",
        "CREATE TABLE t (mood mood, id int)",
        "INSERT INTO t SELECT 'calm', n FROM generate_series(1, 1000) AS n",
    ];
    let it = Fixture::with(|config| {
        config.connections_max = 1;
        config.mode = forebay_config::PostgresMode::Transaction;
    })
    .await;
    for text in SETUP {
        it.postgres.execute(&Sql::owned("CREATE mood", text.to_owned()), &[]).await.expect(text);
    }
    let cases = [
        ("SELECT mood FROM t", Some("column of type public.mood")),
        ("SELECT array_agg(mood) FROM t", Some("column of type public._mood")),
        ("UPDATE t SET mood = $1", Some("parameter of type public.mood")),
        ("SELECT mood::text FROM t", None),
        ("SELECT id FROM t WHERE mood::text <> ''", None),
    ];
    for (text, refused) in cases {
        let sql = Sql::new("SELECT moods", text);
        let outcome = it.postgres.query(&sql, &[]).await;
        let mut tx = it.postgres.begin().await.expect("a transaction");
        let inside = tx.query(&sql, &[]).await;
        for outcome in [outcome, inside] {
            match (outcome, refused) {
                (Ok(rows), None) => assert_eq!(rows.len(), 1000),
                (Err(error @ PgError::CustomType { .. }), Some(words)) => {
                    assert!(error.to_string().starts_with(&format!("SELECT moods has a {words}")));
                    assert!(!error.is_unavailable() && error.retry_after().is_none());
                }
                (outcome, _) => panic!("{text}: {outcome:?}"),
            }
        }
    }
    it.pid().await;
}
