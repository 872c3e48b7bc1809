//! What an operator sees of the caches of running services, and does to them.

use std::time::Duration;

use forebay_e2e::{System, USDC};
use forebay_proto::ops::v1::ops_service_client::OpsServiceClient;
use forebay_proto::ops::v1::{
    CacheEntityStats, CacheEntryKey, ClearCacheRequest, GetCacheStatsRequest,
    InspectCacheEntryRequest,
};
use forebay_proto::token::v1::LookupTokenRequest;
use tonic::Code;
use tonic::transport::Endpoint;

/// Fails when what callers read is not counted by the service that they asked, or a cleared entry
/// is answered from a cache.
#[tokio::test]
async fn a_cache_is_shown_and_cleared_through_its_service() -> anyhow::Result<()> {
    let system = System::start().await?;
    let address = format!("http://127.0.0.1:{}", system.token.grpc_port);
    let ops = OpsServiceClient::new(Endpoint::from_shared(address)?.connect().await?);
    let mut tokens = system.token_client().await?;
    let lookup = LookupTokenRequest { mint: USDC.to_owned() };
    let entity = async || -> anyhow::Result<CacheEntityStats> {
        let reply = ops.clone().get_cache_stats(GetCacheStatsRequest {}).await?.into_inner();
        let names: Vec<_> = reply.entities.iter().map(|one| one.entity.as_str()).collect();
        assert_eq!(names, ["token", "token_by_mint", "token_list"]);
        Ok(reply.entities.into_iter().nth(1).expect("three"))
    };
    let count = |stats: &CacheEntityStats, outcome: &str| {
        stats.outcomes.iter().find(|one| one.reason == outcome).map_or(0, |one| one.count)
    };
    for _ in 0..3 {
        tokens.lookup_token(lookup.clone()).await?;
    }
    let read = entity().await?;
    assert_eq!((count(&read, "loaded"), count(&read, "hit_l1")), (1, 2), "{read:?}");
    assert_eq!((read.l1_entries, read.hit_ratio), (1, Some(0.666)), "{read:?}");

    let cleared = async || -> anyhow::Result<()> {
        let mut ops = ops.clone();
        // Redis may just be connecting; then it is told as soon as it answers.
        loop {
            let request = ClearCacheRequest { entity: "token_by_mint".to_owned() };
            if ops.clear_cache(request).await?.into_inner().confirmed {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), cleared()).await??;
    let key = CacheEntryKey { entity: "token_by_mint".to_owned(), key: USDC.to_owned() };
    let inspect = InspectCacheEntryRequest { entry: Some(key) };
    let gone = ops.clone().inspect_cache_entry(inspect).await?.into_inner();
    assert!(gone.l1.is_none() && gone.l2.is_none_or(|l2| l2.negative), "{gone:?}");
    tokens.lookup_token(lookup).await?;
    assert_eq!(count(&entity().await?, "loaded"), 2);

    let unknown = ClearCacheRequest { entity: "pool".to_owned() };
    let refused = ops.clone().clear_cache(unknown).await.expect_err("of the other service");
    assert_eq!(refused.code(), Code::InvalidArgument);
    Ok(())
}
