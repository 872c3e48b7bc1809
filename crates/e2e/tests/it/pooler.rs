//! The services behind a transaction pooler: everything they can be asked, by 200 callers at once,
//! over two server connections.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use forebay_e2e::{Backends, PoolClient, SOL, SOL_USDC_POOL, System, TokenClient, USDC};
use forebay_proto::pool::v1::{
    BatchGetPoolsRequest, CreatePoolRequest, DeletePoolRequest, GetPoolRequest, ListPoolsRequest,
    LookupPoolRequest, MintPair, Pool, PoolFilter, UpdatePoolRequest,
};
use forebay_proto::token::v1::{
    BatchGetTokensRequest, CreateTokenRequest, DeleteTokenRequest, GetTokenRequest,
    ListTokensRequest, LookupTokenRequest, Token, TokenFilter, UpdateTokenRequest,
};
use forebay_testkit::PrivatePgBouncer;
use futures_util::future::try_join_all;
use prost_types::FieldMask;
use tonic::Code;
use uuid::Uuid;

/// Callers of each service.
const CALLERS: u32 = 100;

/// Whoever waits longer hangs.
const HANG: Duration = Duration::from_secs(120);

/// Fails when a statement of either service keeps its name (42P05, which callers see as INTERNAL),
/// sets something for its session, or leans on what another transaction has left: token-server and
/// pool-server are two processes, so each meets server connections that the other has just used.
#[tokio::test]
async fn every_call_is_answered_behind_a_transaction_pooler() -> anyhow::Result<()> {
    let database = forebay_testkit::seeded_database().await;
    let pooler = PrivatePgBouncer::start(database.url());
    let backends = Backends {
        postgres_url: format!("{}?pgbouncer=true", pooler.url()),
        redis_url: forebay_testkit::redis_url(),
        redis_prefix: forebay_testkit::redis_prefix(),
        // A busy machine must not turn a slow answer into another one.
        env: [
            ("FOREBAY__GRPC__TIMEOUT_DEFAULT", "60s"),
            ("FOREBAY__POSTGRES__ACQUIRE_TIMEOUT", "30s"),
            ("FOREBAY__POSTGRES__STATEMENT_TIMEOUT", "30s"),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .to_vec(),
    };
    let system = System::start_on(&backends).await?;
    let (tokens, pools) = (system.token_client().await?, system.pool_client().await?);
    let started = tokio::time::Instant::now();
    let callers = async {
        let of_tokens = try_join_all((0..CALLERS).map(|caller| use_tokens(tokens.clone(), caller)));
        let of_pools = try_join_all((0..CALLERS).map(|caller| use_pools(pools.clone(), caller)));
        tokio::try_join!(of_tokens, of_pools)
    };
    tokio::time::timeout(HANG, callers).await.context("the callers hang")??;
    report(started.elapsed());
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a test prints its figures")]
fn report(elapsed: Duration) {
    println!("{CALLERS} callers of each service got 12 right answers each in {elapsed:.1?}");
}

async fn use_tokens(mut tokens: TokenClient, caller: u32) -> anyhow::Result<()> {
    let mint = address(caller);
    let symbol = format!("T{caller}");
    let token = Token {
        mint: mint.clone(),
        symbol: symbol.clone(),
        name: format!("Token of {caller}"),
        decimals: caller,
        tags: vec![symbol.clone()],
        ..Default::default()
    };
    let create = CreateTokenRequest { token: Some(token), request_id: request_id() };
    let created = tokens.create_token(create.clone()).await?.into_inner().token;
    let again = tokens.create_token(create).await?.into_inner().token;
    ensure!(created == again, "one request, one token: {created:?} {again:?}");
    let created = created.context("the created token")?;
    ensure!(created.decimals == caller && created.mint == mint, "{created:?}");

    let get = GetTokenRequest { id: created.id.clone() };
    let found = tokens.get_token(get.clone()).await?.into_inner().token;
    ensure!(found.as_ref() == Some(&created), "{found:?} instead of {created:?}");
    let lookup = LookupTokenRequest { mint: mint.clone() };
    let found = tokens.lookup_token(lookup).await?.into_inner().token;
    ensure!(found.as_ref() == Some(&created), "{found:?} instead of {created:?}");
    let mints = vec![USDC.to_owned(), mint.clone(), address(caller + CALLERS)];
    let batch = BatchGetTokensRequest { ids: Vec::new(), mints: mints.clone() };
    let batch = tokens.batch_get_tokens(batch).await?.into_inner();
    let found: Vec<_> = batch.tokens.iter().map(|token| token.mint.as_str()).collect();
    ensure!(found == mints[..2] && batch.missing == mints[2..], "{batch:?}");
    let filter = TokenFilter { tag: symbol, ..Default::default() };
    let list = ListTokensRequest { page_size: 10, filter: Some(filter), ..Default::default() };
    let listed = tokens.list_tokens(list).await?.into_inner().tokens;
    ensure!(listed == [created.clone()], "{listed:?} instead of {created:?}");

    let renamed = Token { name: "another".to_owned(), ..created.clone() };
    let update = UpdateTokenRequest {
        token: Some(renamed),
        update_mask: Some(FieldMask { paths: vec!["name".to_owned()] }),
        request_id: request_id(),
    };
    let updated = tokens.update_token(update.clone()).await?.into_inner().token;
    let updated = updated.context("the updated token")?;
    ensure!(updated.name == "another" && updated.version > created.version, "{updated:?}");
    let stale = UpdateTokenRequest { request_id: request_id(), ..update };
    refused(tokens.update_token(stale).await, Code::Aborted)?;
    let found = tokens.get_token(get.clone()).await?.into_inner().token;
    ensure!(found.as_ref() == Some(&updated), "{found:?} instead of {updated:?}");

    let (id, etag) = (updated.id, updated.etag);
    let delete = DeleteTokenRequest { id, etag, request_id: request_id() };
    tokens.delete_token(delete.clone()).await?;
    tokens.delete_token(delete).await.context("one request, one deletion")?;
    refused(tokens.get_token(get).await, Code::NotFound)
}

async fn use_pools(mut pools: PoolClient, caller: u32) -> anyhow::Result<()> {
    let pool_address = address(caller);
    let pool = Pool {
        pool_address: pool_address.clone(),
        dex: "orca".to_owned(),
        base_mint: SOL.to_owned(),
        quote_mint: USDC.to_owned(),
        base_vault: address(caller + CALLERS),
        quote_vault: address(caller + 2 * CALLERS),
        lp_mint: address(caller + 3 * CALLERS),
        lp_decimals: caller,
        curve: 1,
        trade_fee_bps: caller,
        owner_fee_bps: 5,
        name: format!("Pool of {caller}"),
        ..Default::default()
    };
    let create = CreatePoolRequest { pool: Some(pool), request_id: request_id() };
    let created = pools.create_pool(create.clone()).await?.into_inner().pool;
    let again = pools.create_pool(create).await?.into_inner().pool;
    ensure!(created == again, "one request, one pool: {created:?} {again:?}");
    let created = created.context("the created pool")?;
    ensure!(created.trade_fee_bps == caller && !created.base_token_id.is_empty(), "{created:?}");

    let get = GetPoolRequest { id: created.id.clone() };
    let found = pools.get_pool(get.clone()).await?.into_inner().pool;
    ensure!(found.as_ref() == Some(&created), "{found:?} instead of {created:?}");
    let lookup = LookupPoolRequest { pool_address: pool_address.clone() };
    let found = pools.lookup_pool(lookup).await?.into_inner().pool;
    ensure!(found.as_ref() == Some(&created), "{found:?} instead of {created:?}");
    let pool_addresses =
        vec![SOL_USDC_POOL.to_owned(), pool_address.clone(), address(caller + CALLERS)];
    let batch =
        BatchGetPoolsRequest { pool_addresses: pool_addresses.clone(), ..Default::default() };
    let batch = pools.batch_get_pools(batch).await?.into_inner();
    let found: Vec<_> = batch.pools.iter().map(|pool| pool.pool_address.as_str()).collect();
    ensure!(found == pool_addresses[..2] && batch.missing == pool_addresses[2..], "{batch:?}");
    let pair = MintPair { first_mint: USDC.to_owned(), second_mint: SOL.to_owned() };
    let filter = PoolFilter { pair: Some(pair), ..Default::default() };
    let list = ListPoolsRequest { page_size: 1000, filter: Some(filter), ..Default::default() };
    let listed = pools.list_pools(list).await?.into_inner().pools;
    ensure!(listed.contains(&created), "{} pools and not {created:?}", listed.len());

    let renamed = Pool { name: "another".to_owned(), ..created.clone() };
    let update = UpdatePoolRequest {
        pool: Some(renamed),
        update_mask: Some(FieldMask { paths: vec!["name".to_owned()] }),
        request_id: request_id(),
    };
    let updated = pools.update_pool(update.clone()).await?.into_inner().pool;
    let updated = updated.context("the updated pool")?;
    ensure!(updated.name == "another" && updated.version > created.version, "{updated:?}");
    let stale = UpdatePoolRequest { request_id: request_id(), ..update };
    refused(pools.update_pool(stale).await, Code::Aborted)?;
    let found = pools.get_pool(get.clone()).await?.into_inner().pool;
    ensure!(found.as_ref() == Some(&updated), "{found:?} instead of {updated:?}");

    let (id, etag) = (updated.id, updated.etag);
    let delete = DeletePoolRequest { id, etag, request_id: request_id() };
    pools.delete_pool(delete.clone()).await?;
    pools.delete_pool(delete).await.context("one request, one deletion")?;
    refused(pools.get_pool(get).await, Code::NotFound)
}

fn refused<T>(reply: Result<T, tonic::Status>, expected: Code) -> anyhow::Result<()> {
    let code = reply.err().map(|status| status.code());
    ensure!(code == Some(expected), "{code:?} instead of {expected:?}");
    Ok(())
}

fn request_id() -> String {
    Uuid::now_v7().to_string()
}

/// A valid public key of its own for each small number, and no real one: 30 zero bytes, which are
/// as many ones in base58, and two more.
fn address(number: u32) -> String {
    const DIGITS: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    const TWO_BYTES_MIN: u32 = 256;
    let mut rest = number + TWO_BYTES_MIN;
    let mut digits = Vec::new();
    while rest > 0 {
        let digit = usize::try_from(rest % 58).expect("it is below 58");
        digits.push(char::from(DIGITS[digit]));
        rest /= 58;
    }
    let digits: String = digits.iter().rev().collect();
    format!("{}{digits}", "1".repeat(30))
}
