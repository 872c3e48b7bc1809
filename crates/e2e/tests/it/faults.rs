//! Backends killed under load: what callers see, and that all of it heals by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use forebay_e2e::{Backends, System, TokenClient, USDC};
use forebay_proto::token::v1::{
    GetTokenRequest, ListTokensRequest, LookupTokenRequest, Token, UpdateTokenRequest,
};
use forebay_testkit::{PrivatePostgres, PrivateRedis};
use prost_types::FieldMask;
use tokio::time::Instant;
use tonic::Status;

use crate::details::assert_retryable;

/// How long the system may take to heal after a backend is back.
const HEAL_TIMEOUT: Duration = Duration::from_secs(20);
/// "Fails fast": a caller is told within this time.
const FAST: Duration = Duration::from_secs(3);

/// Four callers that read one token after another until they are stopped.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    readers: Vec<tokio::task::JoinHandle<Result<(), Status>>>,
}

impl Load {
    fn start(client: &TokenClient, ids: Vec<String>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let readers = (0..4)
            .map(|offset| {
                let (mut client, ids) = (client.clone(), ids.clone());
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
                tokio::spawn(async move {
                    for id in ids.iter().cycle().skip(offset) {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        client.get_token(GetTokenRequest { id: id.clone() }).await?;
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        Self { stop, answered, readers }
    }

    /// Waits until `count` further reads were answered.
    async fn answer(&self, count: u64) {
        let goal = self.answered.load(Ordering::Relaxed) + count;
        let mut poll = tokio::time::interval(Duration::from_millis(5));
        while self.answered.load(Ordering::Relaxed) < goal
            && self.readers.iter().any(|reader| !reader.is_finished())
        {
            poll.tick().await;
        }
    }

    /// Stops the load; fails when a single read failed.
    async fn finish(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for reader in self.readers {
            reader.await??;
        }
        Ok(())
    }
}

async fn some_ids(tokens: &mut TokenClient, count: i32) -> anyhow::Result<Vec<String>> {
    let request = ListTokensRequest { page_size: count, ..Default::default() };
    let page = tokens.list_tokens(request).await?.into_inner();
    Ok(page.tokens.into_iter().map(|token| token.id).collect())
}

async fn rename(tokens: &mut TokenClient, id: &str, name: &str) -> Result<Token, Status> {
    let request = UpdateTokenRequest {
        token: Some(Token { id: id.to_owned(), name: name.to_owned(), ..Default::default() }),
        update_mask: Some(FieldMask { paths: vec!["name".to_owned()] }),
        request_id: String::new(),
    };
    Ok(tokens.update_token(request).await?.into_inner().token.expect("the updated token"))
}

async fn name_of(tokens: &mut TokenClient, id: &str) -> Result<String, Status> {
    let reply = tokens.get_token(GetTokenRequest { id: id.to_owned() }).await?;
    Ok(reply.into_inner().token.expect("the token").name)
}

/// Fails when an L2 error reaches a caller, or when a write trusts Redis to be there.
#[tokio::test]
async fn redis_killed_under_load_costs_no_caller_an_error() -> anyhow::Result<()> {
    let database = forebay_testkit::seeded_database().await;
    let mut redis = PrivateRedis::start();
    let backends = Backends {
        postgres_url: database.url().to_owned(),
        redis_url: redis.url(),
        redis_prefix: forebay_testkit::redis_prefix(),
        env: Vec::new(),
    };
    let system = System::start_on(&backends).await?;
    let mut tokens = system.token_client().await?;
    let ids = some_ids(&mut tokens, 500).await?;
    let written = ids[0].clone();
    let load = Load::start(&tokens, ids);
    load.answer(200).await;

    redis.kill();
    load.answer(1000).await;
    rename(&mut tokens, &written, "written without Redis").await?;
    assert_eq!(name_of(&mut tokens, &written).await?, "written without Redis");
    load.answer(200).await;

    redis.restart();
    load.answer(1000).await;
    rename(&mut tokens, &written, "written with Redis again").await?;
    assert_eq!(name_of(&mut tokens, &written).await?, "written with Redis again");
    load.finish().await
}

/// Fails when a lost Postgres hangs callers, hides its cause, or is not found again.
#[tokio::test]
async fn postgres_killed_leaves_cached_reads_and_fails_the_rest_fast() -> anyhow::Result<()> {
    let mut postgres = PrivatePostgres::start_seeded().await;
    let backends = Backends {
        postgres_url: postgres.url(),
        redis_url: forebay_testkit::redis_url(),
        redis_prefix: forebay_testkit::redis_prefix(),
        env: Vec::new(),
    };
    let system = System::start_on(&backends).await?;
    let mut tokens = system.token_client().await?;
    let lookup = LookupTokenRequest { mint: USDC.to_owned() };
    let usdc = tokens.lookup_token(lookup).await?.into_inner().token.expect("USDC");
    let cached = name_of(&mut tokens, &usdc.id).await?;
    let load = Load::start(&tokens, vec![usdc.id.clone()]);
    load.answer(200).await;

    postgres.kill();
    load.answer(1000).await;
    assert_eq!(name_of(&mut tokens, &usdc.id).await?, cached);
    for _ in 0..5 {
        let started = Instant::now();
        let list = ListTokensRequest { page_size: 1, ..Default::default() };
        let status = tokens.list_tokens(list).await.expect_err("no list without Postgres");
        assert_retryable(&status);
        let status = rename(&mut tokens, &usdc.id, "lost").await.expect_err("no write either");
        assert_retryable(&status);
        assert!(started.elapsed() < FAST, "callers waited {:?}", started.elapsed());
    }

    postgres.restart();
    let healed = Instant::now() + HEAL_TIMEOUT;
    let mut poll = tokio::time::interval(Duration::from_millis(50));
    while let Err(status) = rename(&mut tokens, &usdc.id, "after the restart").await {
        assert_retryable(&status);
        assert!(Instant::now() < healed, "not healed after {HEAL_TIMEOUT:?}: {status:?}");
        poll.tick().await;
    }
    assert_eq!(name_of(&mut tokens, &usdc.id).await?, "after the restart");
    load.finish().await
}
