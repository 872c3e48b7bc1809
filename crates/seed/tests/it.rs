//! Seeding against a real Postgres.

use std::collections::BTreeMap;

use forebay_postgres::types::Json;
use forebay_seed::source::{self, SeedMetadata};
use forebay_seed::{Counts, Existing, Progress, Stage, scale, seed};
use forebay_testkit::{TestDatabase, database, seeded_database};

/// Fails when a blank is trimmed, a tag dropped or reordered, or a rare value refused.
#[tokio::test]
async fn every_row_is_stored_unchanged() {
    let database = seeded_database().await;
    let connection = database.connect().await;
    let rows = connection
        .client()
        .query("SELECT mint, symbol, name, decimals, metadata FROM tokens ORDER BY mint", &[])
        .await
        .unwrap();
    let tokens = source::tokens().unwrap();
    assert_eq!((rows.len(), tokens.len()), (13_053, 13_053));
    for (row, token) in rows.iter().zip(&tokens) {
        let stored = (row.get::<_, &str>(0), row.get::<_, &str>(1), row.get::<_, &str>(2));
        assert_eq!(stored, (token.mint.as_str(), token.symbol.as_str(), token.name.as_str()));
        assert_eq!(row.get::<_, i16>(3), i16::from(token.decimals), "{}", token.mint);
        let Json(metadata) = row.get::<_, Json<SeedMetadata>>(4);
        assert_eq!(metadata, token.metadata, "{}", token.mint);
    }
    // The source is dirty, and a test that saw only clean rows would prove nothing.
    assert!(tokens.iter().any(|token| token.name.ends_with(' ')));
    assert!(tokens.iter().any(|token| token.decimals == 100));

    let rows = connection
        .client()
        .query(
            "SELECT pool_address, dex, base.mint, quote.mint, base_vault, quote_vault, lp_mint, curve,
                pools.name, lp_decimals, trade_fee_bps, owner_fee_bps
             FROM pools JOIN tokens base ON base.id = base_token_id
             JOIN tokens quote ON quote.id = quote_token_id",
            &[],
        )
        .await
        .unwrap();
    let pools = source::pools().unwrap();
    assert_eq!((rows.len(), pools.len()), (134, 134));
    let stored: BTreeMap<&str, _> = rows.iter().map(|row| (row.get(0), row)).collect();
    for pool in &pools {
        let row = stored[pool.pool_address.as_str()];
        let texts: Vec<&str> = (1..9).map(|column| row.get(column)).collect();
        let expected = [
            &pool.dex,
            &pool.base_mint,
            &pool.quote_mint,
            &pool.base_vault,
            &pool.quote_vault,
            &pool.lp_mint,
            &pool.curve,
            &pool.name,
        ];
        assert_eq!(texts, expected);
        assert_eq!(row.get::<_, i16>(9), i16::from(pool.lp_decimals));
        assert_eq!(f64::from(row.get::<_, i32>(10)), pool.trade_fee_bps);
        assert_eq!(f64::from(row.get::<_, i32>(11)), pool.owner_fee_bps);
    }
}

/// One number that changes when any row or version does.
async fn fingerprint(database: &TestDatabase) -> (i64, i64) {
    let connection = database.connect().await;
    let row = connection
        .client()
        .query_one(
            "SELECT (SELECT bit_xor(hashtextextended(tokens::text, 0)) FROM tokens)
                # (SELECT bit_xor(hashtextextended(pools::text, 0)) FROM pools),
                (SELECT last_value FROM row_version)",
            &[],
        )
        .await
        .expect("fingerprint the tables");
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn a_second_run_changes_nothing_not_even_a_version() {
    let database = seeded_database().await;
    let before = fingerprint(&database).await;
    for existing in [Existing::Keep, Existing::Reset] {
        let report = seed(database.url(), existing, |_| {}).await.unwrap();
        assert_eq!(report.tokens, Counts { inserted: 0, reset: 0, kept: 13_053 });
        assert_eq!(report.pools, Counts { inserted: 0, reset: 0, kept: 134 });
        assert_eq!(fingerprint(&database).await, before, "{existing:?}");
    }
}

#[tokio::test]
async fn what_users_changed_stays_unless_it_is_reset() {
    let database = seeded_database().await;
    let connection = database.connect().await;
    let usdc = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";
    connection
        .client()
        .batch_execute(&format!(
            "UPDATE tokens SET name = 'mine' WHERE mint = '{usdc}';
             UPDATE pools SET name = 'mine' WHERE name = 'solUsdcPool';
             DELETE FROM tokens WHERE mint = (SELECT min(mint) FROM tokens)"
        ))
        .await
        .unwrap();
    let mine =
        "SELECT count(*) FROM (SELECT name FROM tokens UNION ALL SELECT name FROM pools) AS n
        WHERE name = 'mine'";
    let count = async || -> i64 { connection.client().query_one(mine, &[]).await.unwrap().get(0) };

    let report = seed(database.url(), Existing::Keep, |_| {}).await.unwrap();
    assert_eq!(report.tokens, Counts { inserted: 1, reset: 0, kept: 13_052 });
    assert_eq!(count().await, 2);

    let report = seed(database.url(), Existing::Reset, |_| {}).await.unwrap();
    assert_eq!(report.tokens, Counts { inserted: 0, reset: 1, kept: 13_052 });
    assert_eq!(report.pools, Counts { inserted: 0, reset: 1, kept: 133 });
    assert_eq!(count().await, 0);
}

#[tokio::test]
async fn progress_only_grows_and_ends_at_the_total() {
    let database = database().await;
    let mut steps: Vec<Progress> = Vec::new();
    seed(database.url(), Existing::Keep, |step| steps.push(step)).await.unwrap();
    for (stage, total) in [(Stage::Tokens, 13_053), (Stage::Pools, 134)] {
        let done: Vec<u64> =
            steps.iter().filter(|step| step.stage == stage).map(|step| step.done).collect();
        assert!(done.is_sorted(), "{done:?}");
        assert_eq!(done.last(), Some(&total));
        assert!(steps.iter().all(|step| step.stage != stage || step.total == total));
    }
}

#[tokio::test]
async fn a_larger_scale_begins_with_a_smaller_one() {
    let database = database().await;
    let small = scale(database.url(), 1000, 7, |_| {}).await.unwrap();
    assert_eq!((small.tokens.inserted, small.pools.inserted), (1000, 250));
    let large = scale(database.url(), 5001, 7, |_| {}).await.unwrap();
    assert_eq!(large.tokens, Counts { inserted: 4001, reset: 0, kept: 1000 });
    assert_eq!(large.pools, Counts { inserted: 1000, reset: 0, kept: 250 });
}

#[tokio::test]
async fn a_database_that_is_not_migrated_is_named_as_the_cause() {
    let database = forebay_testkit::empty_database().await;
    let error = seed(database.url(), Existing::Keep, |_| {}).await.unwrap_err();
    assert!(format!("{error:#}").contains("relation \"tokens\" does not exist"), "{error:#}");
}
