//! A caller that never gives its connection back.

#![expect(clippy::print_stdout, reason = "the figures of a test are for whoever reads its output")]

use std::time::Duration;

use forebay_pooling::Deadline;
use forebay_postgres::PgError;
use tokio::time::Instant;

use crate::spans::Warnings;
use crate::support::{Fixture, PID, SLEEP, ms};

/// Fails when the visitor does not look for leaks, when a timeout does not say who holds the
/// connections, and when a drain waits for its holder or leaves the statement running.
#[tokio::test]
async fn a_connection_held_for_ever_is_named_and_cut_off() {
    let warnings = Warnings::listen();
    let it = Fixture::with(|config| {
        config.connections_max = 1;
        config.leak_after = ms(300);
        config.acquire_timeout = ms(500);
    })
    .await;
    let started = Instant::now();
    let line = line!() + 1;
    let mut held = it.postgres.begin().await.expect("the only connection");
    let here = ["held for too long", "tests/it/leaks.rs", &format!("\"line\": \"{line}\"")];
    while warnings.with(&here).is_empty() {
        let waited = started.elapsed();
        assert!(waited < Duration::from_secs(6), "nobody warns: {:?}", warnings.with(&[]));
        tokio::time::sleep(ms(5)).await;
    }
    let warned = started.elapsed();
    assert!(warned >= ms(300), "warned after {warned:?}");

    let error = it.postgres.query(&PID, &[]).await.expect_err("the connection is held");
    let text = error.to_string();
    assert!(matches!(error, PgError::Timeout { in_use: 1, limbo: 0, .. }), "{error:?}");
    let place = format!("tests/it/leaks.rs:{line} ");
    assert!(text.contains(&place), "the holder is not named: {text}");
    // Long enough for several looks of the visitor.
    assert_eq!(warnings.with(&here).len(), 1, "it is told once");
    assert_eq!(it.postgres.stats().leaked, 1);

    let running = tokio::spawn(async move {
        let outcome = held.query(&SLEEP, &[&60.0_f64]).await;
        (outcome, held)
    });
    it.wait_for_backends("active", 1).await;
    let started = Instant::now();
    assert_eq!(it.postgres.drain(Deadline::after(ms(200))).await, 1);
    let drained = started.elapsed();
    assert!(drained >= ms(200) && drained < ms(2500), "drained after {drained:?}");
    it.wait_for_backends("%", 0).await;
    let (outcome, held) = running.await.expect("the task ends");
    assert!(outcome.is_err(), "{outcome:?}");
    drop(held);
    println!(
        "leak: warned after {warned:?}, drained with deadline 200 ms after {drained:?}: {text}"
    );
}
