//! What the tables, triggers and functions of the schema promise.

use forebay_testkit::database;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::maintenance::Maintenance;

const MINT: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";

async fn insert(client: &Client, mint: &str) -> i64 {
    let row = client
        .query_one(
            "INSERT INTO tokens (id, mint, symbol, name, decimals)
             VALUES (gen_random_uuid(), $1, 'S', 'N', 6) RETURNING version",
            &[&mint],
        )
        .await
        .unwrap();
    row.get(0)
}

async fn outbox(client: &Client) -> Vec<(String, Option<String>, i64)> {
    let rows = client
        .query(
            "SELECT operation, entity_key, version FROM cache_outbox
             WHERE entity = 'token' ORDER BY xid, position",
            &[],
        )
        .await
        .unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

#[tokio::test]
async fn versions_grow_across_update_delete_and_new_creation() {
    let database = database().await;
    let connection = Maintenance::connect(database.url()).await.unwrap();
    let client = connection.client();
    let created = insert(client, MINT).await;
    let updated: i64 = client
        .query_one("UPDATE tokens SET name = 'M' RETURNING version", &[])
        .await
        .unwrap()
        .get(0);
    client.execute("DELETE FROM tokens", &[]).await.unwrap();
    let tombstone: i64 =
        client.query_one("SELECT currval('row_version')", &[]).await.unwrap().get(0);
    let again = insert(client, MINT).await;
    client.batch_execute("TRUNCATE tokens CASCADE").await.unwrap();
    assert!(created < updated && updated < tombstone && tombstone < again);

    let mint = Some(MINT.to_owned());
    let changes = outbox(client).await;
    let expected = [
        ("upsert", &mint, created),
        ("upsert", &mint, updated),
        ("delete", &mint, tombstone),
        ("upsert", &mint, again),
    ];
    for (change, (operation, key, version)) in changes.iter().zip(expected) {
        assert_eq!(*change, (operation.to_owned(), key.clone(), version));
    }
    assert_eq!(changes.len(), 5);
    assert_eq!(changes[4].0, "truncate");
}

/// Fails without the check in `outbox_after_insert`: the new row would be older than the tombstone.
#[tokio::test]
async fn an_insert_overtaken_by_a_deletion_of_its_key_is_refused() {
    let database = database().await;
    let (first, second) = tokio::join!(database.connect(), database.connect());
    insert(first.client(), MINT).await;
    first.client().batch_execute("BEGIN; DELETE FROM tokens").await.unwrap();
    let inserting = async {
        second
            .client()
            .execute(
                "INSERT INTO tokens (id, mint, symbol, name, decimals)
                 VALUES (gen_random_uuid(), $1, 'S', 'N', 6)",
                &[&MINT],
            )
            .await
    };
    // The insert holds its version and waits: from here on a tombstone is newer than that.
    let tombstoning = async {
        wait_until_blocked(&database).await;
        first
            .client()
            .batch_execute(
                "UPDATE cache_outbox SET version = nextval('row_version') WHERE operation = 'delete'; COMMIT",
            )
            .await
            .unwrap();
    };
    let (inserted, ()) = tokio::join!(inserting, tombstoning);
    assert_eq!(inserted.unwrap_err().code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE));
    insert(second.client(), MINT).await;
}

/// Returns when a session of the database waits for another one's lock.
async fn wait_until_blocked(database: &forebay_testkit::TestDatabase) {
    let watcher = database.connect().await;
    let waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock')";
    let mut blocked = false;
    while !blocked {
        blocked = watcher.client().query_one(waiting, &[]).await.unwrap().get(0);
    }
}

#[tokio::test]
async fn a_row_that_breaks_a_rule_is_refused_by_the_name_of_the_rule() {
    let database = database().await;
    let connection = Maintenance::connect(database.url()).await.unwrap();
    insert(connection.client(), MINT).await;
    let token = |change: &str| format!("UPDATE tokens SET {change}");
    let pool = |change: &str| {
        format!(
            "INSERT INTO pools SELECT (jsonb_populate_record(NULL::pools, to_jsonb(p) || '{change}')).*
             FROM (SELECT gen_random_uuid() AS id, '{MINT}' AS pool_address, 'orca' AS dex,
                gen_random_uuid() AS base_token_id, gen_random_uuid() AS quote_token_id,
                '{MINT}' AS base_vault, '{MINT}' AS quote_vault, '{MINT}' AS lp_mint,
                6 AS lp_decimals, 'stable' AS curve, 0 AS trade_fee_bps, 0 AS owner_fee_bps,
                'n' AS name, '{{}}'::jsonb AS metadata, 0 AS version, now() AS created_at,
                now() AS updated_at) AS p"
        )
    };
    let cases = [
        (token("symbol = ''"), "tokens_symbol_length"),
        (token("symbol = repeat('é', 65)"), "tokens_symbol_length"),
        (token("name = repeat('n', 129)"), "tokens_name_length"),
        (token("decimals = 256"), "tokens_decimals_range"),
        (token("metadata = '[]'"), "tokens_metadata_shape"),
        (token(r#"metadata = '{"tags": {}}'"#), "tokens_metadata_shape"),
        (token("mint = mint || 'x'"), "tokens_key_immutable"),
        (token("id = gen_random_uuid()"), "tokens_key_immutable"),
        (pool("{}"), "pools_base_token_fkey"),
        (pool(r#"{"dex": "Orca"}"#), "pools_dex_format"),
        (pool(r#"{"curve": "flat"}"#), "pools_curve_known"),
        (pool(r#"{"trade_fee_bps": 10001}"#), "pools_trade_fee_range"),
        (pool(r#"{"pool_address": "0"}"#), "pools_pool_address_is_base58"),
    ];
    for (statement, constraint) in cases {
        let error = connection.client().batch_execute(&statement).await.unwrap_err();
        let refused = error.as_db_error().and_then(|error| error.constraint());
        assert_eq!(refused, Some(constraint), "{statement}: {error:?}");
    }
}

#[tokio::test]
async fn snapshots_move_to_the_partition_of_their_day_and_old_days_go() {
    let database = database().await;
    let connection = Maintenance::connect(database.url()).await.unwrap();
    let client = connection.client();
    client
        .batch_execute(
            "INSERT INTO tokens (id, mint, symbol, name, decimals)
             SELECT gen_random_uuid(), repeat(digit, 32), 'S', 'N', 6
             FROM unnest('{1,2}'::text[]) AS digit;
             INSERT INTO pools (id, pool_address, dex, base_token_id, quote_token_id, base_vault,
                quote_vault, lp_mint, lp_decimals, curve, trade_fee_bps, owner_fee_bps, name)
             SELECT gen_random_uuid(), one.mint, 'orca', one.id, other.id, one.mint, one.mint,
                one.mint, 6, 'stable', 0, 0, 'N'
             FROM tokens AS one JOIN tokens AS other ON one.mint < other.mint;
             INSERT INTO pool_snapshots
             SELECT id, now() - day * interval '1 day', 1, 18446744073709551615, 0
             FROM pools, generate_series(0, 9) AS day;
             SELECT create_pool_snapshot_partition((now() AT TIME ZONE 'UTC')::date - day)
             FROM generate_series(1, 9) AS day;",
        )
        .await
        .unwrap();
    let row = client
        .query_one("SELECT created, dropped FROM maintain_pool_snapshot_partitions(2, 5)", &[])
        .await
        .unwrap();
    assert_eq!((row.get::<_, i32>(0), row.get::<_, i32>(1)), (3, 4));
    let row = client
        .query_one(
            "SELECT (SELECT count(*) FROM pool_snapshots), (SELECT count(*) FROM pool_snapshots_default)",
            &[],
        )
        .await
        .unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (6, 0));
}

#[tokio::test]
async fn statistics_are_refreshed_by_one_session_at_a_time() {
    let database = database().await;
    let (first, second) = tokio::join!(database.connect(), database.connect());
    let refresh = "SELECT refresh_pool_stats_24h()";
    first
        .client()
        .batch_execute(
            "SET session_replication_role = replica;
             INSERT INTO pool_snapshots
             SELECT '00000000-0000-7000-8000-000000000001',
                now() - hour * interval '1 hour' - interval '30 minutes', hour,
                100, 100 * (1 + hour) FROM generate_series(0, 30) AS hour;
             BEGIN",
        )
        .await
        .unwrap();
    assert!(first.client().query_one(refresh, &[]).await.unwrap().get::<_, bool>(0));
    assert!(!second.client().query_one(refresh, &[]).await.unwrap().get::<_, bool>(0));
    first.client().batch_execute("COMMIT").await.unwrap();
    let row = second
        .client()
        .query_one(
            "SELECT snapshots, quote_reserve_first::int8, quote_reserve_last::int8,
                raw_price_min::float8, raw_price_max::float8 FROM pool_stats_24h",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 24);
    assert_eq!((row.get::<_, i64>(1), row.get::<_, i64>(2)), (2400, 100));
    assert_eq!((row.get::<_, f64>(3), row.get::<_, f64>(4)), (1.0, 24.0));
}
