//! Probing under a clock that stands still until a test moves it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::readiness::{ComponentState, Readiness};

/// What the probe answers at each call.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Works,
    Fails,
    Hangs,
}

use Answer::{Fails, Hangs, Works};

async fn check(answers: &'static [Answer], after: Duration, expected: &str) {
    let readiness = Readiness::new();
    let shutdown = Shutdown::new();
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let probe = move || {
        let call = usize::try_from(counted.fetch_add(1, Ordering::Relaxed)).unwrap();
        async move {
            assert!(Context::is_current_telemetry_suppressed());
            match answers[call.min(answers.len() - 1)] {
                Works => Ok(()),
                Fails => Err(io::Error::other("no route")),
                Hangs => std::future::pending().await,
            }
        }
    };
    let watching = tokio::spawn(watch(shutdown.clone(), readiness.component("store"), probe));
    tokio::time::sleep(after).await;
    let state = readiness.components()[0].state.clone();
    let actual = match &state {
        ComponentState::Degraded(reason) => reason.as_str(),
        state => state.as_str(),
    };
    assert_eq!(actual, expected, "{answers:?} after {after:?}");
    shutdown.trigger();
    watching.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_component_follows_its_probe() {
    let ms = Duration::from_millis;
    check(&[Works], ms(10), "ready").await;
    check(&[Fails], ms(10), "no route").await;
    check(&[Fails, Works], ms(990), "no route").await;
    check(&[Fails, Works], ms(1010), "ready").await;
    check(&[Works, Fails, Works], ms(1500), "no route").await;
    check(&[Works, Fails, Works], ms(2500), "ready").await;
}

/// A store that never answers is away; without the timeout it would stay "ready".
#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_is_cut() {
    check(&[Works, Hangs], Duration::from_millis(3900), "ready").await;
    check(&[Works, Hangs], Duration::from_millis(4100), "no answer within 3s").await;
    check(&[Hangs, Works], Duration::from_millis(4100), "ready").await;
}
