//! Backends that an operator ends.

use anyhow::Context as _;
use forebay_postgres::maintenance::Maintenance;

use super::Chaos;

/// A backend of the services, one in the middle of something if there is one.
const KILL_ONE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
     WHERE datname = current_database() AND pid <> pg_backend_pid() \
     ORDER BY state <> 'idle' DESC, random() LIMIT 1";
const KILL_ALL: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
     WHERE datname = current_database() AND pid <> pg_backend_pid()";

/// A way to kill, how often, and how many calls are answered between two times.
///
/// A call of 16 callers may meet several kills; that an administrator ends its session is no fault of
/// the call and uses up no try (ADR 0006). What bounds the pace is the retry budget: a connection that
/// was ended before it served anybody brings no token.
const KILLS: [(&str, u32, u64, &str); 2] = [
    (KILL_ONE, 100, 5, "a backend killed 100 times"),
    (KILL_ALL, 20, 20, "all backends killed 20 times"),
];

/// Fails when a write whose backend was killed before its commit is not done again, and when a read
/// whose backend was killed is not repeated. That one event costs one token, however many calls it
/// fells, and that it uses up no try, is held by `all_backends_killed_at_once_are_one_event` and
/// `who_is_ended_by_an_administrator_has_used_up_no_try` of the crate `postgres`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_backends_cost_no_caller_an_error() -> anyhow::Result<()> {
    let it = Chaos::start(&[]).await?;
    for (kill, times, between, what) in KILLS {
        let traffic = it.traffic().await?;
        for round in 0..times {
            if round > 0 {
                traffic.answer(between).await;
            }
            let admin = Maintenance::connect(&it.postgres.url()).await?;
            admin.client().batch_execute(kill).await.context(what)?;
            admin.close().await;
        }
        let tally = it.settle(what, traffic).await?;
        assert!(tally.is_clean(), "what is done again hides a killed backend: {tally}");
    }
    Ok(())
}
