//! What a trace shows of a statement.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use forebay_postgres::Sql;
use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

use crate::support::{Fixture, ms};

type Fields = BTreeMap<String, String>;

/// Keeps the fields of every statement's span.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<BTreeMap<u64, Fields>>>);

/// Keeps the text of every warning.
#[derive(Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<Vec<String>>>);

/// For the whole process: with one for a test alone, a test on another thread could make `tracing`
/// remember that nobody wants what this one waits for.
static OBSERVED: LazyLock<(Spans, Warnings)> = LazyLock::new(|| {
    let (spans, warnings) = (Spans::default(), Warnings::default());
    let subscriber = Registry::default().with(spans.clone()).with(warnings.clone());
    tracing::subscriber::set_global_default(subscriber).expect("nobody else does so");
    (spans, warnings)
});

impl Warnings {
    /// Listens from now on.
    pub(crate) fn listen() -> Self {
        OBSERVED.1.clone()
    }

    /// The warnings so far that hold every one of `words`.
    pub(crate) fn with(&self, words: &[&str]) -> Vec<String> {
        let has_all = |text: &&String| words.iter().all(|word| text.contains(word));
        self.0.lock().iter().filter(has_all).cloned().collect()
    }
}

impl<S: tracing::Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == tracing::Level::WARN {
            let mut fields = Fields::new();
            event.record(&mut Recorder(&mut fields));
            self.0.lock().push(format!("{fields:?}"));
        }
    }
}

impl Spans {
    fn listen() -> Self {
        OBSERVED.0.clone()
    }

    /// The only span whose text is `text`.
    fn one(&self, text: &str) -> Fields {
        let spans = self.0.lock();
        let mut found =
            spans.values().filter(|fields| fields.get("db.query.text").is_some_and(|t| t == text));
        let fields = found.next().expect("a span").clone();
        assert!(found.next().is_none(), "one span for {text}");
        fields
    }
}

impl<S: tracing::Subscriber> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        if attributes.metadata().name() == "postgres.statement" {
            let mut fields = Fields::new();
            attributes.record(&mut Recorder(&mut fields));
            self.0.lock().insert(id.into_u64(), fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        if let Some(fields) = self.0.lock().get_mut(&id.into_u64()) {
            values.record(&mut Recorder(fields));
        }
    }
}

struct Recorder<'a>(&'a mut Fields);

impl Visit for Recorder<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

#[tokio::test]
async fn a_statement_has_the_fields_of_the_conventions() {
    static GET: Sql = Sql::new("SELECT things", "SELECT $1::text AS traced");
    static SLEEP: Sql = Sql::new("SELECT pg_sleep", "SELECT pg_sleep($1) AS traced");
    static WRONG: Sql = Sql::new("SELECT things", "SELECT 1/0 AS traced");
    let it = Fixture::new(1).await;
    let spans = Spans::listen();
    it.postgres.query(&GET, &[&"never-shown"]).await.expect("a row");
    let fields = spans.one(GET.text());
    let expected = [
        ("otel.name", "SELECT things"),
        ("otel.kind", "client"),
        ("db.system.name", "postgresql"),
        ("db.operation.name", "SELECT"),
        ("db.query.summary", "SELECT things"),
        ("db.query.text", "SELECT $1::text AS traced"),
        ("server.address", "127.0.0.1"),
    ];
    for (name, value) in expected {
        assert_eq!(fields.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(it.database.url().ends_with(&fields["db.namespace"]));
    assert!(fields.contains_key("server.port") && !fields.contains_key("error.type"));
    assert!(!format!("{fields:?}").contains("never-shown"), "values are not part of a trace");

    it.postgres.query(&WRONG, &[]).await.expect_err("a division by zero");
    let fields = spans.one(WRONG.text());
    let outcome = ["db.response.status_code", "error.type", "otel.status_code"]
        .map(|name| fields.get(name).map(String::as_str));
    assert_eq!(outcome, [Some("22012"), Some("database"), Some("ERROR")]);

    let cut_off = tokio::time::timeout(ms(50), it.postgres.query(&SLEEP, &[&3.0_f64])).await;
    assert!(cut_off.is_err());
    assert_eq!(spans.one(SLEEP.text()).get("error.type").map(String::as_str), Some("cancelled"));
}
