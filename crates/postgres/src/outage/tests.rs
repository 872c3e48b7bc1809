//! How a failing server is asked, under a paused clock.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::{advance, sleep};

use super::{BACKOFF, Outage};
use crate::PgError;

fn refused() -> PgError {
    let source = Arc::new(io::Error::from(io::ErrorKind::ConnectionRefused));
    PgError::Unreachable { address: "h:1".to_owned(), source }
}

async fn fail(outage: &Outage, attempts: &AtomicU32) -> bool {
    let connect = async {
        attempts.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(1)).await;
        Err::<(), _>(refused())
    };
    outage.attempt(connect).await.is_err()
}

/// Fails when attempts are not held back: 1,000 callers would make 1,000 of them.
#[tokio::test(start_paused = true)]
async fn a_failing_server_is_asked_by_one_attempt_at_a_time() {
    let (outage, attempts) = (Outage::new(), AtomicU32::new(0));
    assert!(fail(&outage, &attempts).await);
    let all = futures_util::future::join_all((0..1000).map(|_| fail(&outage, &attempts))).await;
    assert!(all.into_iter().all(|failed| failed));
    let made = attempts.load(Ordering::Relaxed);
    // The pause is random and may be next to nothing.
    assert!(made < 50, "{made} attempts");
}

#[tokio::test(start_paused = true)]
async fn everyone_who_listens_hears_the_cause() {
    let (outage, attempts) = (Outage::new(), AtomicU32::new(0));
    let mut listeners = [outage.listen(), outage.listen()];
    assert!(fail(&outage, &attempts).await);
    for listener in &mut listeners {
        listener.changed().await.expect("the outage is there");
        assert!(matches!(&*listener.borrow(), Some(PgError::Unreachable { .. })));
    }
    // What happened before does not concern who comes later.
    let mut late = outage.listen();
    assert!(tokio::time::timeout(Duration::from_secs(9), late.changed()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_success_ends_the_outage() {
    let (outage, attempts) = (Outage::new(), AtomicU32::new(0));
    assert!(fail(&outage, &attempts).await);
    assert!(outage.cause().is_some());
    advance(BACKOFF.ceiling(u32::MAX)).await;
    assert!(outage.attempt(async { Ok(()) }).await.is_ok());
    assert!(outage.cause().is_none());
}
