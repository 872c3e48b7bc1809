//! Starting, telling the truth about it, and stopping.

use std::time::Duration;

use forebay_e2e::{ServiceProcess, System, USDC, http_get};
use forebay_proto::token::v1::LookupTokenRequest;
use forebay_testkit::PrivatePostgres;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// Longer than the lame duck and the drain together.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_ready_process_says_so_on_every_port() -> anyhow::Result<()> {
    let system = System::start().await?;
    for service in [&system.token, &system.pool] {
        for path in ["/livez", "/readyz", "/startupz"] {
            let (status, body) = http_get(service.ops_port, path).await?;
            assert_eq!(status, 200, "{path}: {body}");
        }
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{}", service.grpc_port))?;
        let mut health = HealthClient::new(endpoint.connect().await?);
        let reply = health.check(HealthCheckRequest { service: String::new() }).await?;
        assert_eq!(reply.into_inner().status(), ServingStatus::Serving);
    }
    Ok(())
}

#[tokio::test]
async fn metrics_count_calls_and_connections() -> anyhow::Result<()> {
    let system = System::start().await?;
    let mut tokens = system.token_client().await?;
    for _ in 0..3 {
        tokens.lookup_token(LookupTokenRequest { mint: USDC.to_owned() }).await?;
    }
    let (status, body) = http_get(system.token.ops_port, "/metrics").await?;
    assert_eq!(status, 200);
    for name in ["rpc_server_call_duration", "db_client_connection_count", "forebay_cache"] {
        assert!(body.contains(name), "{name} is missing in:\n{body}");
    }
    Ok(())
}

/// The names of the OpenTelemetry conventions ("Database client metrics"), which dashboards that
/// know nothing of forebay look for, in valid OpenMetrics. Fails when one is renamed or is lost
/// on the way from its instrument to the page.
#[tokio::test]
async fn connection_metrics_have_the_names_of_the_conventions() -> anyhow::Result<()> {
    let system = System::start().await?;
    let mut tokens = system.token_client().await?;
    tokens.lookup_token(LookupTokenRequest { mint: USDC.to_owned() }).await?;
    for service in [&system.token, &system.pool] {
        let (_, body) = http_get(service.ops_port, "/metrics").await?;
        for line in [
            "# TYPE db_client_connection_count gauge",
            "# TYPE db_client_connection_max gauge",
            "# TYPE db_client_connection_pending_requests gauge",
            "# TYPE db_client_connection_timeouts counter",
            "# TYPE db_client_connection_create_time_seconds histogram",
            "# TYPE db_client_connection_wait_time_seconds histogram",
            "# TYPE db_client_connection_use_time_seconds histogram",
        ] {
            assert!(body.lines().any(|it| it == line), "{line} is missing in:\n{body}");
        }
        for state in ["idle", "used"] {
            let is_sample = |line: &str| {
                line.starts_with("db_client_connection_count{")
                    && line.contains(&format!("db_client_connection_state=\"{state}\""))
                    && line.contains("db_client_connection_pool_name=\"")
            };
            assert!(body.lines().any(is_sample), "no connection {state} in:\n{body}");
        }
        assert!(body.ends_with("# EOF\n"), "{body}");
        assert!(!body.contains("postgres://"), "an address is in:\n{body}");
    }
    Ok(())
}

/// An idle client that never closes its connection must not hold the process back.
#[tokio::test]
async fn a_stop_ends_within_its_cap_and_cleanly() -> anyhow::Result<()> {
    let mut system = System::start().await?;
    let mut idle = system.token_client().await?;
    idle.lookup_token(LookupTokenRequest { mint: USDC.to_owned() }).await?;
    for service in [&mut system.pool, &mut system.token] {
        let status = service.stop(STOP_TIMEOUT).await?;
        assert!(status.success(), "{status}");
    }
    Ok(())
}

/// Fails when a service runs although all of them together could open more connections than the
/// server has (drop `within_budget` from its main).
#[tokio::test]
async fn a_service_that_does_not_fit_the_server_does_not_run() -> anyhow::Result<()> {
    let postgres = PrivatePostgres::start_with(&[("max_connections", "20")]).await;
    let env = [
        ("DATABASE_URL", postgres.url()),
        ("REDIS_URL", forebay_testkit::redis_url()),
        ("FOREBAY__REDIS__KEY_PREFIX", forebay_testkit::redis_prefix()),
    ];
    let ended = ServiceProcess::run("token-server", &env, STOP_TIMEOUT).await?;
    let written = String::from_utf8(ended.stdout)? + &String::from_utf8(ended.stderr)?;
    assert!(!ended.status.success(), "{written}");
    let arithmetic = "token-server 1 x 20 + pool-server 1 x 20 +";
    for part in ["refuse to run", arithmetic, "more than", "max_connections 20"] {
        assert!(written.contains(part), "{part:?} is missing in:\n{written}");
    }
    Ok(())
}
