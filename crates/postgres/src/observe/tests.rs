//! Which span is current while a statement runs and while it is dropped.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures_util::FutureExt as _;
use opentelemetry::global;
use parking_lot::Mutex;

use super::Observer;
use crate::{PgError, Sql};

static SELECT: Sql = Sql::new("SELECT t", "SELECT 1");

fn observer() -> Observer {
    let duration = global::meter("test").f64_histogram("duration").build();
    Observer {
        database: "db".to_owned(),
        address: "host".to_owned(),
        port: 1,
        duration,
        unknown_outcomes: AtomicU64::new(0),
    }
}

/// Notes the current span when it is dropped, as the janitor does that cleans up after a statement.
struct Left(Arc<Mutex<Vec<&'static str>>>);

impl Drop for Left {
    fn drop(&mut self) {
        let name = tracing::Span::current().metadata().map_or("none", |span| span.name());
        self.0.lock().push(name);
    }
}

/// Fails when a statement that its caller gave up leaves its span before it is taken apart: then
/// the cancelling of it on the server is in nobody's trace.
#[test]
fn what_a_dropped_statement_leaves_is_in_its_trace() {
    let _subscriber = tracing::subscriber::set_default(tracing_subscriber::registry());
    let (observer, seen) = (observer(), Arc::new(Mutex::new(Vec::new())));
    let left = Left(Arc::clone(&seen));
    let cancelled = observer.statement(&SELECT, async move {
        let _left = left;
        std::future::pending().await
    });
    assert!(cancelled.now_or_never().is_none_or(|outcome: Result<(), _>| outcome.is_err()));
    assert_eq!(*seen.lock(), ["postgres.statement"]);

    let left = Left(Arc::clone(&seen));
    let unused = observer.statement(&SELECT, async move {
        let _left = left;
        Ok::<_, PgError>(())
    });
    drop(unused);
    assert_eq!(*seen.lock(), ["postgres.statement", "none"], "what never ran has no span");
}

/// Fails when the future of a statement holds its work twice, as that of an `async fn` would.
#[test]
fn a_statement_is_hardly_larger_than_its_work() {
    const WORK_BYTES: usize = 4096;
    let work = async {
        let bytes = [1_u8; WORK_BYTES];
        tokio::task::yield_now().await;
        Ok::<_, PgError>(bytes.len())
    };
    let observer = observer();
    let statement = observer.statement(&SELECT, work);
    let bytes = size_of_val(&statement);
    assert!(bytes < WORK_BYTES * 3 / 2, "{bytes} bytes around {WORK_BYTES}");
    assert!(matches!(statement.now_or_never(), None | Some(Ok(WORK_BYTES))));
}
