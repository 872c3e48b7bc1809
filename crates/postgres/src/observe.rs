//! Spans and durations of statements, under the names of the OpenTelemetry conventions.
//!
//! Names: OpenTelemetry semantic conventions, "Database client spans" and "Database client metrics".

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use forebay_pooling::SECONDS_BOUNDARIES;
use opentelemetry::metrics::Histogram;
use opentelemetry::{KeyValue, global};
use tokio::time::Instant;
use tracing::Span;
use tracing::field::Empty;

use crate::wire::dsn::{Place, Target};
use crate::{PgError, Sql};

/// What all statements of one connection pool have in common.
pub(crate) struct Observer {
    database: String,
    address: String,
    port: u16,
    duration: Histogram<f64>,
    unknown_outcomes: AtomicU64,
}

impl Observer {
    pub(crate) fn new(target: &Target) -> Self {
        let (address, port) = match target.places.first() {
            Some(Place::Tcp { host, port }) => (host.clone(), *port),
            Some(Place::Unix(path)) => (path.display().to_string(), 0),
            None => (String::new(), 0),
        };
        let duration = global::meter("forebay.postgres")
            .f64_histogram("db.client.operation.duration")
            .with_unit("s")
            .with_description("Duration of database client operations.")
            .with_boundaries(SECONDS_BOUNDARIES.to_vec())
            .build();
        Self {
            database: target.database.clone(),
            address,
            port,
            duration,
            unknown_outcomes: AtomicU64::new(0),
        }
    }

    /// Statements that were sent and not answered, so that nobody knows what they did.
    pub(crate) fn unknown_outcomes(&self) -> u64 {
        self.unknown_outcomes.load(Ordering::Relaxed)
    }

    /// Runs `work` inside a span for `sql`. Span and clock start when it is first polled.
    pub(crate) fn statement<'a, F>(&'a self, sql: &'a Sql, work: F) -> Statement<'a, F> {
        Statement { observer: self, sql, running: None, work: Some(work) }
    }

    fn span(&self, sql: &Sql) -> Span {
        tracing::info_span!(
            "postgres.statement",
            otel.name = sql.summary(),
            otel.kind = "client",
            otel.status_code = Empty,
            db.system.name = "postgresql",
            db.namespace = self.database,
            db.operation.name = sql.operation(),
            db.query.summary = sql.summary(),
            db.query.text = sql.text(),
            db.response.status_code = Empty,
            server.address = self.address,
            server.port = self.port,
            error.type = Empty,
        )
    }
}

pin_project_lite::pin_project! {
    /// A statement and its span. Not an `async fn`: that keeps what it was given beside what it
    /// awaits, and so would double the bytes that every caller moves and stores.
    pub(crate) struct Statement<'a, F> {
        observer: &'a Observer,
        sql: &'a Sql,
        running: Option<Running<'a>>,
        #[pin]
        work: Option<F>,
    }

    impl<F> PinnedDrop for Statement<'_, F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            // What a dropped statement leaves to be cleaned belongs to its trace.
            let _inside = this.running.as_ref().map(|running| running.span.enter());
            this.work.set(None);
        }
    }
}

impl<T, F: Future<Output = Result<T, PgError>>> Future for Statement<'_, F> {
    type Output = Result<T, PgError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let (observer, sql) = (*this.observer, *this.sql);
        let running = this.running.get_or_insert_with(|| Running {
            observer,
            sql,
            span: observer.span(sql),
            started: Some(Instant::now()),
        });
        let outcome = {
            let _inside = running.span.enter();
            let work = this.work.as_mut().as_pin_mut().expect("polled after its end");
            let outcome = ready!(work.poll(cx));
            this.work.set(None);
            outcome
        };
        running.finish(outcome.as_ref().err());
        Poll::Ready(outcome)
    }
}

/// A statement under way; dropped before its end, it was cancelled by its caller.
struct Running<'a> {
    observer: &'a Observer,
    sql: &'a Sql,
    span: Span,
    started: Option<Instant>,
}

impl Running<'_> {
    fn finish(&mut self, error: Option<&PgError>) {
        if let Some(error) = error
            && let Some(sqlstate) = error.sqlstate()
        {
            self.span.record("db.response.status_code", sqlstate);
        }
        if matches!(error, Some(PgError::UnknownOutcome { .. })) {
            self.observer.unknown_outcomes.fetch_add(1, Ordering::Relaxed);
        }
        self.end(error.map(PgError::kind));
    }

    fn end(&mut self, error: Option<&'static str>) {
        let Some(started) = self.started.take() else {
            return;
        };
        let seconds = started.elapsed().as_secs_f64();
        let system = KeyValue::new("db.system.name", "postgresql");
        let summary = KeyValue::new("db.query.summary", self.sql.summary());
        match error {
            None => self.observer.duration.record(seconds, &[system, summary]),
            Some(kind) => {
                self.span.record("error.type", kind);
                self.span.record("otel.status_code", "ERROR");
                let error = KeyValue::new("error.type", kind);
                self.observer.duration.record(seconds, &[system, summary, error]);
            }
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.end(Some("cancelled"));
    }
}

#[cfg(test)]
mod tests;
