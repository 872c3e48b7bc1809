//! What the outbox tells, on a real server.

use forebay_testkit::PrivatePostgres;

use super::*;

const CHANGE: Sql = Sql::new(
    "INSERT cache_outbox",
    "INSERT INTO cache_outbox (entity, entity_id, entity_key, version, operation) \
     SELECT 'token', gen_random_uuid(), i::text, i, 'upsert' FROM generate_series($1::bigint, $2) i",
);

fn versions(page: &Page) -> Vec<i64> {
    page.changes.iter().map(|change| change.version).collect()
}

/// Fails with a reader that waits for all older transactions: it would see neither change.
#[tokio::test]
async fn an_open_transaction_holds_nobody_up_and_is_found_when_it_commits() {
    let database = forebay_testkit::database().await;
    let postgres = database.pool();
    let outbox = Outbox::new(postgres.clone(), 100);
    let mut open = postgres.begin().await.expect("a transaction");
    open.execute(&CHANGE, &[&1_i64, &1_i64]).await.expect("a change that is not committed");
    let base = outbox.unseen(None, Cursor::default()).await.expect("a base").base;
    postgres.execute(&CHANGE, &[&2_i64, &2_i64]).await.expect("a change");
    let page = outbox.unseen(Some(&base.snapshot), Cursor::default()).await.expect("a page");
    assert_eq!(versions(&page), [2], "later, and seen all the same");
    let base = page.base;
    open.commit().await.expect("committed");
    let page = outbox.unseen(Some(&base.snapshot), Cursor::default()).await.expect("a page");
    assert_eq!(versions(&page), [1], "older, and seen when it ended");
    let base = page.base;
    let page = outbox.unseen(Some(&base.snapshot), Cursor::default()).await.expect("a page");
    assert_eq!(versions(&page), [0_i64; 0]);
    assert_eq!(base.gap_to(&page.base), None);
}

#[tokio::test]
async fn pages_follow_each_other() {
    let database = forebay_testkit::database().await;
    let postgres = database.pool();
    let outbox = Outbox::new(postgres.clone(), 10);
    let base = outbox.unseen(None, Cursor::default()).await.expect("a base").base;
    for first in [1, 16, 31_i64] {
        postgres.execute(&CHANGE, &[&first, &(first + 14)]).await.expect("changes");
    }
    let (mut cursor, mut found) = (Some(Cursor::default()), Vec::new());
    while let Some(at) = cursor {
        let page = outbox.unseen(Some(&base.snapshot), at).await.expect("a page");
        found.extend(versions(&page));
        cursor = page.next;
    }
    assert_eq!(found, (1..=45).collect::<Vec<i64>>());
}

/// Fails if the plan reads the table: in a million changes each question would take a second.
#[tokio::test]
async fn the_question_is_answered_by_the_primary_key() {
    const MANY: Sql = Sql::new(
        "INSERT cache_outbox",
        "INSERT INTO cache_outbox (xid, entity, entity_id, entity_key, version, operation) \
         SELECT (i / 4)::text::xid8, 'token', gen_random_uuid(), i::text, i, 'upsert' \
         FROM generate_series(1, 200000) i",
    );
    let database = forebay_testkit::database().await;
    let postgres = database.pool();
    postgres.execute(&MANY, &[]).await.expect("changes");
    let admin = database.connect().await;
    admin.client().batch_execute("ANALYZE cache_outbox").await.expect("analyzed");
    let running = "49000:50001:49000,49500";
    let statement = UNSEEN.text().replace("$1", &format!("'{running}'")).replace("$2", "'0'");
    let statement = statement.replace("$3", "0").replace("$4", "5000");
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS) {statement}");
    let rows = admin.client().query(&explain, &[]).await.expect("a plan");
    let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let plan = plan.join("\n");
    assert_eq!(plan.matches("cache_outbox_pkey").count(), 2, "{plan}");
    assert!(!plan.contains("Seq Scan on cache_outbox"), "{plan}");
}

/// The server crashes before it has written commits that were answered (`synchronous_commit` is
/// off), and gives out their ids again. Fails without the look at the checkpoint of its start: the
/// new change has an id that the base saw, so nobody would ever be told of it.
#[tokio::test]
async fn ids_that_a_crash_gave_out_again_are_a_gap() {
    let settings = [("synchronous_commit", "off"), ("wal_writer_delay", "10s")];
    let mut server = PrivatePostgres::start_with(&settings).await;
    let postgres = PgPool::new(&forebay_testkit::postgres_config(&server.url()), "cache-test");
    let postgres = postgres.expect("settings");
    let outbox = Outbox::new(postgres.clone(), 100);
    for lost in 1..=20_i64 {
        postgres.execute(&CHANGE, &[&lost, &lost]).await.expect("a change that will be lost");
    }
    let base = outbox.unseen(None, Cursor::default()).await.expect("a base").base;
    server.kill();
    server.restart();
    let postgres = PgPool::new(&forebay_testkit::postgres_config(&server.url()), "cache-test");
    let postgres = postgres.expect("settings");
    let outbox = Outbox::new(postgres.clone(), 100);
    for version in 1..=21_i64 {
        postgres.execute(&CHANGE, &[&version, &version]).await.expect("a change");
    }
    let page = outbox.unseen(Some(&base.snapshot), Cursor::default()).await.expect("a page");
    assert!(page.changes.len() < 21, "ids were used again: {:?}", versions(&page));
    assert_eq!(base.gap_to(&page.base), Some(super::super::base::Gap::LostTransactions));
}
