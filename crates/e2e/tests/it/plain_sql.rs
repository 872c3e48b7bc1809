//! Rows changed by plain SQL, behind the back of every service: how soon two replicas show it.

use std::time::Duration;

use forebay_e2e::{Backends, System, TokenClient, USDC};
use forebay_postgres::{PgPool, Sql};
use forebay_proto::token::v1::{
    GetTokenRequest, ListTokensRequest, LookupTokenRequest, TokenFilter,
};
use forebay_testkit::PrivateRedis;
use tokio::time::Instant;

/// The bound of the issue: a change is seen by every replica after this time, whatever Redis does.
const VISIBLE_WITHIN: Duration = Duration::from_secs(1);
/// What one look at both replicas may take on a busy machine; the last look began within the bound.
const LOOK_MARGIN: Duration = Duration::from_secs(2);
/// Changes of each phase.
const CHANGES: usize = 20;

const RENAME: Sql =
    Sql::new("UPDATE tokens by hand", "UPDATE tokens SET name = $1 WHERE mint = $2");

/// Two replicas of the token service and somebody with a SQL prompt.
struct Scene {
    replicas: Vec<TokenClient>,
    postgres: PgPool,
    id: String,
    /// Names given so far, so that no two are the same.
    renamed: usize,
}

impl Scene {
    /// Renames the token by SQL `CHANGES` times, and waits for both replicas to show each name
    /// under both keys and in a list. Prints the longest time from a commit to the last of them.
    #[expect(clippy::print_stdout, reason = "the figures of an acceptance test")]
    async fn change_and_watch(&mut self, phase: &str) -> anyhow::Result<()> {
        let mut longest = Duration::ZERO;
        for _ in 0..CHANGES {
            self.renamed += 1;
            let name = format!("{phase} {}", self.renamed);
            self.postgres.execute(&RENAME, &[&name, &USDC]).await?;
            let committed = Instant::now();
            let mut poll = tokio::time::interval(Duration::from_millis(5));
            loop {
                poll.tick().await;
                // Names read by a look that began after the bound must be the new one.
                let began = committed.elapsed();
                let names = self.names().await?;
                if names.iter().all(|seen| *seen == name) {
                    longest = longest.max(committed.elapsed());
                    break;
                }
                assert!(
                    began <= VISIBLE_WITHIN,
                    "{phase}: {names:?} {began:?} after the commit of {name:?}"
                );
                assert!(
                    committed.elapsed() <= VISIBLE_WITHIN + LOOK_MARGIN,
                    "{phase}: no look ends"
                );
            }
        }
        println!(
            "plain SQL, {phase}: {CHANGES} changes, seen by both replicas after {longest:?} at most"
        );
        Ok(())
    }

    /// What both replicas show under the id, under the mint, and in a list.
    async fn names(&mut self) -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        for replica in &mut self.replicas {
            let get = GetTokenRequest { id: self.id.clone() };
            let by_id = replica.get_token(get).await?.into_inner().token;
            let lookup = LookupTokenRequest { mint: USDC.to_owned() };
            let by_mint = replica.lookup_token(lookup).await?.into_inner().token;
            let filter = TokenFilter { symbol: "USDC".to_owned(), ..Default::default() };
            let list = ListTokensRequest { filter: Some(filter), ..Default::default() };
            let page = replica.list_tokens(list).await?.into_inner().tokens;
            let listed = page.into_iter().find(|token| token.mint == USDC);
            names.extend([by_id, by_mint, listed].into_iter().flatten().map(|token| token.name));
        }
        anyhow::ensure!(names.len() == 3 * self.replicas.len(), "a token is missing: {names:?}");
        Ok(names)
    }
}

/// Fails when the replicas hear of changes from Redis or from the writer alone: nobody announces
/// these changes.
#[tokio::test]
async fn an_update_by_hand_is_seen_by_two_replicas_whatever_redis_does() -> anyhow::Result<()> {
    let database = forebay_testkit::seeded_database().await;
    let mut redis = PrivateRedis::start();
    let backends = Backends {
        postgres_url: database.url().to_owned(),
        redis_url: redis.url(),
        redis_prefix: forebay_testkit::redis_prefix(),
        // Pages are shared at once, or these changes would keep them out of Redis.
        env: vec![("FOREBAY__CACHE__LIST__CALM", "0s".to_owned())],
    };
    let (one, other) = (System::start_on(&backends).await?, System::start_on(&backends).await?);
    let mut replicas = vec![one.token_client().await?, other.token_client().await?];
    let lookup = LookupTokenRequest { mint: USDC.to_owned() };
    let usdc = replicas[0].lookup_token(lookup).await?.into_inner().token.expect("USDC");
    let postgres = database.pool();
    let mut scene = Scene { replicas, postgres, id: usdc.id, renamed: 0 };

    scene.change_and_watch("redis up").await?;
    redis.stop();
    scene.change_and_watch("redis stopped").await?;
    redis.cont();
    scene.change_and_watch("redis goes on").await?;
    redis.kill();
    scene.change_and_watch("redis killed").await?;
    redis.restart();
    scene.change_and_watch("redis restarted empty").await?;
    Ok(())
}
