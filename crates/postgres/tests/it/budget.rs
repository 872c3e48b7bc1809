//! Start-up against a server that is too small.

use forebay_config::{PostgresConfig, ServiceConnections};
use forebay_postgres::{BudgetError, ConnectionLimit, PgPool};
use forebay_testkit::{PrivatePostgres, postgres_config};

fn config(url: &str, connections_max: u32) -> PostgresConfig {
    let mut config = postgres_config(url);
    let service = |service| ServiceConnections { service, processes: 1, connections_max };
    config.budget.services = vec![service("token-server"), service("pool-server")];
    config
}

/// Fails when the server is not asked: 20 connections, of which superusers keep 3.
#[tokio::test]
async fn processes_that_do_not_fit_are_told_the_arithmetic() {
    let server = PrivatePostgres::start_with(&[("max_connections", "20")]).await;
    let check = async |connections_max| {
        let config = config(&server.url(), connections_max);
        let postgres = PgPool::new(&config, "it-budget").expect("a connection pool");
        postgres.check_budget().await
    };
    let report = check(4).await.expect("2 x 4 + 2 + 3 of 13.6");
    let limit = ConnectionLimit::Server { connections_max: 20, superuser_reserved: 3, reserved: 0 };
    assert_eq!((report.planned(), report.limit), (13, limit));
    let error = check(5).await.expect_err("2 x 5 + 2 + 3 of 13.6");
    assert_eq!(
        error.to_string(),
        "the postgres connections do not fit: token-server 1 x 5 + pool-server 1 x 5 + 2 being \
         closed + 3 for others = 15, more than 13.6 = 0.8 x 17 (max_connections 20 - 3 for \
         superusers - 0 reserved)"
    );
}

/// A process starts while its server is away, and asks when it is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_asked_later() {
    let mut server = PrivatePostgres::start().await;
    server.kill();
    let postgres = PgPool::new(&config(&server.url(), 20), "it-budget").expect("a connection pool");
    let outcome = postgres.check_budget().await;
    assert!(
        matches!(&outcome, Err(BudgetError::Unknown(cause)) if cause.is_unavailable()),
        "{outcome:?}"
    );
    tokio::task::block_in_place(|| server.restart());
    while let Err(error) = postgres.check_budget().await {
        assert!(matches!(error, BudgetError::Unknown(_)), "{error:?}");
        tokio::time::sleep(crate::support::ms(5)).await;
    }
}
