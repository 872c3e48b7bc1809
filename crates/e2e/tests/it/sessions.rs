//! Callers who say what they have seen, on two replicas of the services.

use std::collections::HashMap;

use forebay_e2e::{Backends, PoolClient, System, TokenClient, USDC};
use forebay_grpc::client::Session;
use forebay_proto::pool::v1::{CreatePoolRequest, Curve, GetPoolRequest, Pool};
use forebay_proto::token::v1::{
    BatchGetTokensRequest, CreateTokenRequest, DeleteTokenRequest, GetTokenRequest,
    ListTokensRequest, LookupTokenRequest, Token, TokenFilter, UpdateTokenRequest,
};
use prost_types::FieldMask;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

/// Changes in a row.
const ROUNDS: usize = 1_000;
const HEADER: &str = "x-forebay-min-version";

/// Two systems on the same stores. The second hears of changes from its tail alone, and seldom.
async fn two(database: &forebay_testkit::TestDatabase) -> anyhow::Result<(System, System)> {
    let backends = |prefix: String, env| Backends {
        postgres_url: database.url().to_owned(),
        redis_url: forebay_testkit::redis_url(),
        redis_prefix: prefix,
        env,
    };
    // Keys of its own, so that no announcement and no entry of the first reaches it.
    let deaf = vec![("FOREBAY__CACHE__OUTBOX_INTERVAL", "900ms".to_owned())];
    let one = System::start_on(&backends(forebay_testkit::redis_prefix(), Vec::new())).await?;
    let other = System::start_on(&backends(forebay_testkit::redis_prefix(), deaf)).await?;
    Ok((one, other))
}

fn renamed(id: &str, name: &str) -> UpdateTokenRequest {
    let token = Token { id: id.to_owned(), name: name.to_owned(), ..Token::default() };
    UpdateTokenRequest {
        token: Some(token),
        update_mask: Some(FieldMask { paths: vec!["name".to_owned()] }),
        ..UpdateTokenRequest::default()
    }
}

async fn usdc(tokens: &mut TokenClient) -> anyhow::Result<Token> {
    let lookup = LookupTokenRequest { mint: USDC.to_owned() };
    tokens.lookup_token(lookup).await?.into_inner().token.ok_or_else(|| anyhow::anyhow!("USDC"))
}

/// Fails when the header is not looked at: of the reads without it most show the name before.
#[tokio::test]
#[expect(clippy::print_stdout, reason = "the figures of an acceptance test")]
async fn a_write_on_one_replica_is_read_on_the_other_at_once() -> anyhow::Result<()> {
    let database = forebay_testkit::seeded_database().await;
    let (one, other) = two(&database).await?;
    let (mut writer, mut reader) = (one.token_client().await?, other.token_client().await?);
    let id = usdc(&mut writer).await?.id;
    let session = Session::default();
    let (mut old_without, mut stale) = (0, 0);
    for round in 0..ROUNDS {
        let name = format!("round {round}");
        let written = writer.update_token(session.request(renamed(&id, &name))).await?;
        session.has_seen(written.metadata());
        let token = written.into_inner().token.expect("a token");
        assert_eq!(session.version(), token.version, "the reply carries the version");
        old_without += usize::from(usdc(&mut reader).await?.name != name);
        let request = session.request(GetTokenRequest { id: id.clone() });
        let read = reader.get_token(request).await?.into_inner().token.expect("a token");
        stale += usize::from(read.name != name);
    }
    println!(
        "{ROUNDS} writes on one replica, read on the other: {stale} reads with the version were \
         old, {old_without} without it"
    );
    assert_eq!(stale, 0, "reads that missed the caller's own write");
    assert!(old_without > 0, "the replicas are too close for the test to tell anything");
    Ok(())
}

/// Everything that can be read: rows, batches, lists, and that there is no row.
#[tokio::test]
async fn creations_and_deletions_are_seen_by_every_kind_of_read() -> anyhow::Result<()> {
    let database = forebay_testkit::seeded_database().await;
    let (one, other) = two(&database).await?;
    let (mut writer, mut reader) = (one.token_client().await?, other.token_client().await?);
    let mint = format!("Session{}", "x".repeat(36));
    let lookup = || LookupTokenRequest { mint: mint.clone() };
    let batch = || BatchGetTokensRequest { mints: vec![mint.clone()], ..Default::default() };
    let list = || ListTokensRequest {
        filter: Some(TokenFilter { symbol: "SESSION".to_owned(), ..TokenFilter::default() }),
        ..ListTokensRequest::default()
    };
    for round in 0..20 {
        // So that the other replica holds what is about to be wrong.
        reader.lookup_token(lookup()).await.err().map_or(Ok(()), |status| {
            anyhow::ensure!(status.code() == Code::NotFound, "{status}");
            Ok(())
        })?;
        reader.list_tokens(list()).await?;
        let session = Session::default();
        let token = Token {
            mint: mint.clone(),
            symbol: "SESSION".to_owned(),
            name: format!("round {round}"),
            decimals: 6,
            ..Token::default()
        };
        let request = CreateTokenRequest { token: Some(token), ..CreateTokenRequest::default() };
        let created = writer.create_token(session.request(request)).await?;
        session.has_seen(created.metadata());
        let created = created.into_inner().token.expect("a token");
        let read = reader.lookup_token(session.request(lookup())).await?;
        assert_eq!(read.metadata().get(HEADER).expect("told"), &*created.version.to_string());
        assert_eq!(read.into_inner().token.as_ref(), Some(&created));
        let read = reader.batch_get_tokens(session.request(batch())).await?.into_inner();
        assert_eq!((read.tokens.len(), read.missing.len()), (1, 0));
        let read = reader.list_tokens(session.request(list())).await?;
        assert_eq!(read.metadata().get(HEADER).expect("told"), &*created.version.to_string());
        assert_eq!(read.into_inner().tokens, std::slice::from_ref(&created));
        let request = DeleteTokenRequest { id: created.id, ..DeleteTokenRequest::default() };
        let deleted = writer.delete_token(session.request(request)).await?;
        session.has_seen(deleted.metadata());
        assert!(session.version() > created.version, "of the tombstone");
        let read = reader.lookup_token(session.request(lookup())).await;
        assert_eq!(read.expect_err("it is gone").code(), Code::NotFound, "round {round}");
        let read = reader.batch_get_tokens(session.request(batch())).await?.into_inner();
        assert_eq!((read.tokens.len(), read.missing.len()), (0, 1));
        let read = reader.list_tokens(session.request(list())).await?.into_inner();
        assert_eq!(read.tokens, []);
    }
    Ok(())
}

/// A pool is created on a replica whose token service has not heard of the token. Fails when the
/// header is not sent on: that service still holds that there is no such token.
#[tokio::test]
async fn what_a_caller_has_seen_goes_along_to_the_next_service() -> anyhow::Result<()> {
    let database = forebay_testkit::seeded_database().await;
    let (one, other) = two(&database).await?;
    let mut writer = one.token_client().await?;
    let mut pools: PoolClient = other.pool_client().await?;
    let session = Session::default();
    for round in 0..5 {
        let base = format!("Hop{round}{}", "x".repeat(39)).replace('0', "9");
        let key = |what: &str| format!("{what}{}{}", "y".repeat(42 - what.len()), round + 1);
        let pool = Pool {
            pool_address: key("A"),
            dex: "orca".to_owned(),
            base_mint: base.clone(),
            quote_mint: USDC.to_owned(),
            base_vault: key("B"),
            quote_vault: key("C"),
            lp_mint: key("D"),
            lp_decimals: 6,
            curve: Curve::ConstantProduct.into(),
            name: "hop".to_owned(),
            ..Pool::default()
        };
        let create = || CreatePoolRequest { pool: Some(pool.clone()), ..Default::default() };
        let refused = pools.create_pool(create()).await.expect_err("there is no such token");
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        let token = Token {
            mint: base.clone(),
            symbol: "HOP".to_owned(),
            name: "hop".to_owned(),
            decimals: 6,
            ..Token::default()
        };
        let request = CreateTokenRequest { token: Some(token), ..CreateTokenRequest::default() };
        let created = writer.create_token(session.request(request)).await?;
        session.has_seen(created.metadata());
        let made = pools.create_pool(session.request(create())).await?;
        session.has_seen(made.metadata());
        let id = made.into_inner().pool.expect("a pool").id;
        let mut first = one.pool_client().await?;
        first.get_pool(session.request(GetPoolRequest { id })).await?;
    }
    Ok(())
}

/// Fails when what is wrong with the header is not said, or a version that nobody was given makes
/// the service read the store for ever.
#[tokio::test]
async fn a_bad_version_is_refused_with_what_was_expected() -> anyhow::Result<()> {
    let system = System::start().await?;
    let mut tokens = system.token_client().await?;
    let lookup = |version: &str| -> anyhow::Result<Request<LookupTokenRequest>> {
        let mut request = Request::new(LookupTokenRequest { mint: USDC.to_owned() });
        request.metadata_mut().insert(HEADER, version.parse()?);
        Ok(request)
    };
    for bad in ["-1", "new", "1.0", "99999999999999999999"] {
        let status = tokens.lookup_token(lookup(bad)?).await.expect_err(bad);
        assert_eq!(status.code(), Code::InvalidArgument, "{bad}: {status}");
        assert!(status.message().contains(HEADER) && status.message().contains("digits"));
        let info = status.get_details_error_info().expect("ErrorInfo");
        assert_eq!(info.reason, "BAD_MIN_VERSION");
        let expected = HashMap::from([("header".to_owned(), HEADER.to_owned())]);
        assert_eq!(info.metadata, expected);
    }
    let first = tokens.lookup_token(lookup("0")?).await?;
    let version = first.metadata().get(HEADER).expect("told").to_str()?.to_owned();
    tokens.lookup_token(lookup(&version)?).await?;
    assert!(tokens.lookup_token(lookup(&version)?).await?.metadata().contains_key(HEADER));
    let refused = async {
        loop {
            match tokens.lookup_token(lookup("9000000000000000000")?).await {
                Ok(_read_from_the_store) => {}
                Err(status) => return anyhow::Ok(status),
            }
        }
    };
    let status = tokio::time::timeout(std::time::Duration::from_secs(20), refused).await??;
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    let info = status.get_details_error_info().expect("ErrorInfo");
    assert_eq!(info.reason, "MIN_VERSION_UNKNOWN");
    Ok(())
}
