//! Request ids on a real Postgres.

use std::time::Duration;

use bytes::Bytes;
use forebay_postgres::{PgError, PgPool, Sql, Sweep, Sweeper};
use uuid::Uuid;

use crate::{Begun, EXPIRED, Error, RequestKey, begin, finish};

const METHOD: &str = "forebay.test.v1.TestService/Create";

/// One whole request that replies `reply`, and whether it was new.
async fn request(
    postgres: &PgPool,
    key: &RequestKey,
    reply: &[u8],
) -> Result<(bool, Bytes), Error> {
    let mut tx = postgres.begin().await?;
    let outcome = match begin(&mut tx, key).await? {
        Begun::Replay(reply) => (false, reply),
        Begun::New => {
            finish(&mut tx, key, reply).await?;
            (true, Bytes::copy_from_slice(reply))
        }
    };
    tx.commit().await?;
    Ok(outcome)
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_reply() {
    let database = forebay_testkit::database().await;
    let postgres = database.pool();
    let id = Uuid::now_v7();
    let key = RequestKey::new(METHOD, id, b"a");
    let first = request(&postgres, &key, b"one").await.expect("a new request");
    let second = request(&postgres, &key, b"two").await.expect("a repeated request");
    assert_eq!(first, (true, Bytes::from_static(b"one")));
    assert_eq!(second, (false, Bytes::from_static(b"one")));

    // The same id under another method is another request.
    let other = RequestKey::new("forebay.test.v1.TestService/Delete", id, b"a");
    assert!(request(&postgres, &other, b"").await.expect("another method").0);

    // An empty reply is a reply.
    assert_eq!(request(&postgres, &other, b"x").await.expect("a replay"), (false, Bytes::new()));
}

#[tokio::test]
async fn an_id_is_refused_for_another_request() {
    let database = forebay_testkit::database().await;
    let postgres = database.pool();
    let id = Uuid::now_v7();
    request(&postgres, &RequestKey::new(METHOD, id, b"a"), b"one").await.expect("a new request");
    let outcome = request(&postgres, &RequestKey::new(METHOD, id, b"b"), b"two").await;
    assert!(matches!(outcome, Err(Error::Mismatch)), "{outcome:?}");
}

/// Fails when duplicates do not wait for each other: several would be new.
#[tokio::test]
async fn of_many_at_the_same_time_one_is_new() {
    let database = forebay_testkit::database().await;
    let postgres = database.pool();
    for _ in 0..5 {
        let key = RequestKey::new(METHOD, Uuid::now_v7(), b"a");
        let tasks: Vec<_> = (0..8_u8)
            .map(|number| {
                let postgres = postgres.clone();
                tokio::spawn(async move { request(&postgres, &key, &[number]).await })
            })
            .collect();
        let mut outcomes = Vec::new();
        for task in tasks {
            outcomes.push(task.await.expect("the task ends").expect("a reply"));
        }
        assert_eq!(outcomes.iter().filter(|(is_new, _)| *is_new).count(), 1);
        assert!(outcomes.iter().all(|(_, reply)| *reply == outcomes[0].1));
    }
}

#[tokio::test]
async fn a_failed_request_leaves_no_key() {
    let database = forebay_testkit::database().await;
    let postgres = database.pool();
    let key = RequestKey::new(METHOD, Uuid::now_v7(), b"a");
    let mut tx = postgres.begin().await.expect("a transaction");
    assert_eq!(begin(&mut tx, &key).await.expect("a claim"), Begun::New);
    finish(&mut tx, &key, b"never").await.expect("kept for now");
    drop(tx);
    assert!(request(&postgres, &key, b"one").await.expect("a new request").0);
}

#[tokio::test]
async fn a_reply_needs_a_claim() {
    let database = forebay_testkit::database().await;
    let mut tx = database.pool().begin().await.expect("a transaction");
    let outcome = finish(&mut tx, &RequestKey::new(METHOD, Uuid::now_v7(), b"a"), b"x").await;
    assert!(matches!(outcome, Err(Error::Store(PgError::RowCount { rows: 0, .. }))), "{outcome:?}");
}

#[tokio::test]
async fn expired_keys_go_in_bounded_steps() {
    const FILL: Sql = Sql::new(
        "INSERT idempotency_keys",
        "INSERT INTO idempotency_keys (method, request_id, fingerprint, reply, created_at) \
         SELECT 'm', gen_random_uuid(), '', '', now() - make_interval(hours => 25) \
         FROM generate_series(1, 1500)",
    );
    let database = forebay_testkit::database().await;
    let postgres = database.pool();
    postgres.execute(&FILL, &[]).await.expect("rows to delete");
    let key = RequestKey::new(METHOD, Uuid::now_v7(), b"a");
    request(&postgres, &key, b"kept").await.expect("a new request");

    for expected in [1000, 500, 0] {
        let deleted = EXPIRED.step(&postgres).await.expect("a deletion");
        assert_eq!(deleted, expected);
    }
    assert!(!request(&postgres, &key, b"x").await.expect("a replay").0, "a young key stays");

    assert_eq!(
        Sweep { retention: Duration::ZERO, ..EXPIRED }.step(&postgres).await.expect("a deletion"),
        1
    );
    assert!(request(&postgres, &key, b"again").await.expect("a new request").0);
}

/// Fails when nobody calls for the expired keys: the table would grow for ever.
#[tokio::test]
async fn a_sweeper_removes_what_expired_and_nothing_else() {
    const FILL: Sql = Sql::new(
        "INSERT idempotency_keys",
        "INSERT INTO idempotency_keys (method, request_id, fingerprint, reply, created_at) \
         SELECT 'm', gen_random_uuid(), '', '', now() - make_interval(hours => i % 2 * 25) \
         FROM generate_series(1, 3000) i",
    );
    const COUNT: Sql = Sql::new("SELECT idempotency_keys", "SELECT count(*) FROM idempotency_keys");
    let database = forebay_testkit::database().await;
    let postgres = database.pool();
    postgres.execute(&FILL, &[]).await.expect("rows to sweep");
    let _sweeper = Sweeper::start(postgres.clone(), [EXPIRED]);
    let swept = async {
        let mut poll = tokio::time::interval(Duration::from_millis(10));
        loop {
            poll.tick().await;
            let left: i64 = postgres.query_one(&COUNT, &[]).await.expect("a count").get(0);
            if left <= 1500 {
                return left;
            }
        }
    };
    let left = tokio::time::timeout(Duration::from_secs(20), swept).await.expect("a sweep");
    assert_eq!(left, 1500, "young keys stay");
}
