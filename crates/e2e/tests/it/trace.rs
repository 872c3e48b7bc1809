//! One trace id from the client through both services to SQL and Redis.

use std::time::Duration;

use forebay_e2e::{Collector, SOL, SpanRecord, System, USDC, http_get};
use forebay_proto::pool::v1::{ListPoolsRequest, MintPair, PoolFilter};
use forebay_proto::token::v1::{GetTokenRequest, ListTokensRequest};
use tonic::Request;

/// As a caller with a trace of its own would send it.
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER_SPAN: &str = "00f067aa0ba902b7";

fn has(spans: &[SpanRecord], service: &str, test: impl Fn(&SpanRecord) -> bool) -> bool {
    spans.iter().any(|span| span.service == service && test(span))
}

fn system_is(span: &SpanRecord, system: &str) -> bool {
    span.attribute("db.system.name") == Some(system)
}

/// A service serves before Redis is connected. Reads other tokens until one was stored in Redis, so
/// that the traced call finds Redis in its path.
async fn redis_in_the_path(system: &System) -> anyhow::Result<()> {
    let mut tokens = system.token_client().await?;
    let request = ListTokensRequest { page_size: 1000, ..Default::default() };
    let page = tokens.list_tokens(request).await?.into_inner();
    let mut poll = tokio::time::interval(Duration::from_millis(20));
    for token in page.tokens {
        poll.tick().await;
        tokens.get_token(GetTokenRequest { id: token.id }).await?;
        let (_, metrics) = http_get(system.token.ops_port, "/metrics").await?;
        let stored =
            |line: &str| line.starts_with("forebay_cache_l2_fills") && line.contains("\"stored\"");
        if metrics.lines().any(stored) {
            return Ok(());
        }
    }
    anyhow::bail!("a thousand reads and none was stored in Redis")
}

/// Fails when the pool client forgets `traceparent`, when a server ignores it, or when a
/// store stops recording its statements.
#[tokio::test]
async fn one_trace_crosses_every_hop() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let env = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.clone()),
        ("FOREBAY__TELEMETRY__SAMPLE_RATIO", "1.0".to_owned()),
    ];
    let system = System::start_with_env(env).await?;
    redis_in_the_path(&system).await?;
    let pair = MintPair { first_mint: SOL.to_owned(), second_mint: USDC.to_owned() };
    let filter = Some(PoolFilter { pair: Some(pair), ..Default::default() });
    let mut request = Request::new(ListPoolsRequest { filter, ..Default::default() });
    let traceparent = format!("00-{TRACE_ID}-{CALLER_SPAN}-01");
    request.metadata_mut().insert("traceparent", traceparent.parse()?);
    system.pool_client().await?.list_pools(request).await?;

    let spans = collector
        .trace(TRACE_ID, |spans| {
            has(spans, "pool-server", |s| s.span.name == "forebay.pool.v1.PoolService/ListPools")
                && has(spans, "pool-server", |s| system_is(s, "postgresql"))
                && has(spans, "token-server", |s| {
                    s.span.name == "forebay.token.v1.TokenService/BatchGetTokens"
                })
                && has(spans, "token-server", |s| system_is(s, "postgresql"))
                && has(spans, "token-server", |s| system_is(s, "redis"))
        })
        .await?;
    assert_every_span_has_its_parent(&spans);
    let sql = spans.iter().find(|span| system_is(span, "postgresql")).expect("a SQL span");
    let text = sql.attribute("db.query.text").expect("the statement's text");
    assert!(!text.contains(SOL) && !text.contains(USDC), "values stay out of spans: {text}");
    Ok(())
}

fn assert_every_span_has_its_parent(spans: &[SpanRecord]) {
    for record in spans {
        let parent = &record.span.parent_span_id;
        let hex: String = parent.iter().map(|byte| format!("{byte:02x}")).collect();
        let known = hex == CALLER_SPAN || spans.iter().any(|other| other.span.span_id == *parent);
        assert!(known, "{}: {} has no parent in the trace", record.service, record.span.name);
    }
}
