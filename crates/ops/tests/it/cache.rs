//! Looking at the cache and dropping what is in it.

use std::time::Duration;

use forebay_cache::Consistency;
use forebay_proto::ops::v1::ops_service_client::OpsServiceClient;
use forebay_proto::ops::v1::ops_service_server::OpsService as _;
use forebay_proto::ops::v1::*;
use tonic::{Code, Request, Response};

use crate::{Setup, check_fields, setup};

fn entry(entity: &str, key: &str) -> Option<CacheEntryKey> {
    Some(CacheEntryKey { entity: entity.to_owned(), key: key.to_owned() })
}

async fn inspect(setup: &Setup, key: &str) -> InspectCacheEntryResponse {
    let request = InspectCacheEntryRequest { entry: entry("double", key) };
    let reply = setup.ops.inspect_cache_entry(Request::new(request)).await;
    reply.expect("an answer").into_inner()
}

/// Reads 21 anew until both levels have it: Redis is filled behind the reader,
/// and only once the cache trusts it.
async fn filled(setup: &Setup) -> InspectCacheEntryResponse {
    let filled = async {
        loop {
            evict(setup, "21").await;
            setup.doubles.get(&21, Consistency::default()).await.expect("loaded");
            let entry = inspect(setup, "21").await;
            let stats = setup.ops.get_cache_stats(Request::new(GetCacheStatsRequest {})).await;
            let cache = stats.expect("an answer").into_inner().cache.expect("always");
            let is_trusted = cache.l2_state == "trusted";
            if is_trusted && entry.l2.is_some_and(|l2| !l2.negative) {
                return entry;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), filled).await.expect("both levels in time")
}

async fn evict(setup: &Setup, key: &str) {
    let request = EvictCacheEntryRequest { entry: entry("double", key) };
    setup.ops.evict_cache_entry(Request::new(request)).await.expect("dropped");
}

/// Fails when one of the levels is left out of inspecting or of evicting.
#[tokio::test]
async fn looks_at_and_drops_a_cache_entry() {
    let setup = setup().await;
    assert_eq!(inspect(&setup, "21").await, InspectCacheEntryResponse::default());
    let entry = filled(&setup).await;
    for level in [entry.l1, entry.l2] {
        let level = level.expect("filled");
        assert_eq!((level.version, level.negative), (42, false), "{level:?}");
        assert!(level.size_bytes >= 4, "{level:?}");
        assert!(level.time_to_live.is_some_and(|left| (1..=60).contains(&left.seconds)));
    }
    setup.doubles.get(&13, Consistency::default()).await.expect("loaded");
    assert!(inspect(&setup, "13").await.l1.expect("known to be absent").negative);

    evict(&setup, "21").await;
    let dropped = inspect(&setup, "21").await;
    assert_eq!(dropped.l1, None);
    // What Redis keeps is the note that keeps older fills out.
    assert!(dropped.l2.is_none_or(|l2| l2.negative), "{dropped:?}");
}

/// Fails when clearing leaves a level full, or the figures do not follow.
#[tokio::test]
async fn shows_the_cache_and_clears_it() {
    let setup = setup().await;
    let stats = async || {
        let reply = setup.ops.get_cache_stats(Request::new(GetCacheStatsRequest {})).await;
        reply.expect("an answer").into_inner()
    };
    let clear = async |entity: &str| {
        let request = ClearCacheRequest { entity: entity.to_owned() };
        setup.ops.clear_cache(Request::new(request)).await.map(Response::into_inner)
    };
    let fresh = stats().await;
    assert_eq!(fresh.entities[0].hit_ratio, None);
    for entity in ["double", ""] {
        filled(&setup).await;
        setup.doubles.get(&21, Consistency::default()).await.expect("a hit");
        let full = stats().await;
        let cache = full.cache.clone().expect("always");
        assert_eq!((cache.l2_state.as_str(), cache.l1_bytes_max), ("trusted", 1 << 20));
        assert_eq!(cache.l2_breaker.expect("always").state, "closed");
        let [doubles] = full.entities.as_slice() else { panic!("one, not {full:?}") };
        assert_eq!((doubles.entity.as_str(), doubles.l1_entries), ("double", 1));
        assert!(doubles.hit_ratio.is_some_and(|ratio| ratio > 0.0 && ratio < 1.0), "{doubles:?}");
        assert!(doubles.outcomes.iter().any(|one| one.reason == "hit_l1" && one.count > 0));
        let cleared = clear(entity).await.expect("cleared");
        assert_eq!((cleared.l1_entries, cleared.confirmed), (1, true), "{entity:?}");
        assert_eq!(stats().await.entities[0].l1_entries, 0, "{entity:?}");
        assert_eq!(inspect(&setup, "21").await.l1, None, "{entity:?}");
        let lookup = setup.doubles.get(&21, Consistency::default()).await.expect("loaded");
        assert_eq!(lookup.outcome.as_str(), "loaded", "{entity:?}");
    }
    check_fields(&clear("nosuch").await.expect_err("unknown"), &["entity"]);
}

#[tokio::test]
async fn names_what_is_wrong_with_an_entry() {
    let setup = setup().await;
    for (given, fields) in [
        (None, &["entry.entity", "entry.key"][..]),
        (entry("double", ""), &["entry.key"]),
        (entry("nosuch", "1"), &["entry.entity"]),
        (entry("double", "one"), &["entry.key"]),
    ] {
        let inspected = InspectCacheEntryRequest { entry: given.clone() };
        let inspected = setup.ops.inspect_cache_entry(Request::new(inspected)).await;
        let evicted = EvictCacheEntryRequest { entry: given };
        let evicted = setup.ops.evict_cache_entry(Request::new(evicted)).await;
        check_fields(&inspected.expect_err("bad"), fields);
        check_fields(&evicted.expect_err("bad"), fields);
    }
}

/// Fails when the generated server has a limit of its own, 4 MiB and OUT_OF_RANGE.
#[tokio::test]
async fn leaves_the_size_of_messages_to_the_settings() {
    let mut client = OpsServiceClient::new(setup().await.ops.server());
    let entry = entry("double", &"x".repeat(5 << 20));
    let reply = client.inspect_cache_entry(InspectCacheEntryRequest { entry }).await;
    assert_eq!(reply.expect_err("no number").code(), Code::InvalidArgument);
}
