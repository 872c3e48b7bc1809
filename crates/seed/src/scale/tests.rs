//! Synthetic rows are the same everywhere and never collide.

use std::collections::BTreeSet;

use forebay_model::{Mint, PoolAddress};

use super::*;

/// Rows of earlier releases are in databases: a change here would add a second set beside them.
#[test]
fn the_rows_of_a_seed_never_change() {
    let (id, token) = synthetic_token(7, 0);
    let (pool_id, pool) = synthetic_pool(7, 0);
    assert_eq!(
        (id.to_string().as_str(), token.mint.as_str(), token.symbol.as_str(), token.name.as_str()),
        (
            "019b76da-a800-7947-989c-24fee19c5c58",
            "H1vDbjRo7BTUUmkqg6411JPCBrAWcB8N6Bg7pir6J48e",
            "ZIVR",
            "Little Ford 0"
        ),
    );
    assert_eq!(
        (pool_id.to_string().as_str(), pool.pool_address.as_str()),
        ("019b76da-a800-7a8c-a0a2-14c7610f9a19", "CDBzQmiauaRJEREm3JdckaTC3VxTrjf5eNxrUWVCD7CF")
    );
}

#[test]
fn rows_are_valid_and_distinct() {
    let tokens: Vec<_> = (0..4000).map(|index| synthetic_token(1, index)).collect();
    let pools: Vec<_> = (0..1000).map(|index| synthetic_pool(1, index)).collect();
    let mints: BTreeSet<&str> = tokens.iter().map(|(_, token)| token.mint.as_str()).collect();
    let addresses: BTreeSet<&str> =
        pools.iter().map(|(_, pool)| pool.pool_address.as_str()).collect();
    let ids: BTreeSet<_> =
        tokens.iter().map(|(id, _)| id).chain(pools.iter().map(|(id, _)| id)).collect();
    assert_eq!((mints.len(), addresses.len(), ids.len()), (4000, 1000, 5000));
    assert!(mints.iter().all(|mint| mint.parse::<Mint>().is_ok()));
    assert!(addresses.iter().all(|address| address.parse::<PoolAddress>().is_ok()));
    for (index, (_, pool)) in pools.iter().enumerate() {
        assert_ne!(pool.base_mint, pool.quote_mint);
        // The tokens that a pool needs come before it, whatever the number of tokens.
        let known: BTreeSet<&str> =
            tokens[..(index + 1) * 4].iter().map(|(_, token)| token.mint.as_str()).collect();
        assert!(
            known.contains(pool.base_mint.as_str()) && known.contains(pool.quote_mint.as_str())
        );
    }
    assert_ne!(synthetic_token(1, 0), synthetic_token(2, 0));
}
