//! Stores that go away and come back.

use super::Chaos;

/// How often Postgres goes away. What is new after it comes back are its connections, on a machine
/// that has just started a server, so the time until all is well varies most; each time counts.
const TIMES: usize = 3;

/// Fails when callers are told of a restart that they could have waited out, when they are told
/// anything but UNAVAILABLE of a longer outage, and when the services do not heal by themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_postgres_is_waited_for() -> anyhow::Result<()> {
    // On a busy machine a restart takes longer than the second that the defaults reckon with.
    let mut it = Chaos::start(&[
        ("FOREBAY__POSTGRES__OUTAGE_GRACE", "8s"),
        ("FOREBAY__POSTGRES__ACQUIRE_TIMEOUT", "8s"),
    ])
    .await?;
    for _ in 0..TIMES {
        let traffic = it.traffic().await?;
        it.postgres.kill();
        it.postgres.restart();
        // It accepts connections from now on.
        let tally = it.settle("postgres restarted", traffic).await?;
        assert!(tally.is_clean(), "a restart is waited out: {tally}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_stays_away_is_told_as_unavailable() -> anyhow::Result<()> {
    let mut it = Chaos::start(&[]).await?;
    for _ in 0..TIMES {
        let traffic = it.traffic().await?;
        it.postgres.kill();
        traffic.attempt(100).await;
        it.postgres.restart();
        let tally = it.settle("postgres away", traffic).await?;
        assert_eq!(tally.other_failures, 0, "only UNAVAILABLE while Postgres is away: {tally}");
    }
    Ok(())
}

/// Fails when a call depends on Redis.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_redis_costs_no_caller_an_error() -> anyhow::Result<()> {
    let it = Chaos::start(&[]).await?;
    let traffic = it.traffic().await?;
    it.redis.stop();
    traffic.answer(500).await;
    it.redis.cont();
    let tally = it.settle("redis suspended", traffic).await?;
    assert!(tally.is_clean(), "Redis fails nothing: {tally}");
    Ok(())
}
