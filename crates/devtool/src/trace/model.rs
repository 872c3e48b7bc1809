//! Traces put together from the exports they came in.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1 as otlp;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::{Value as Json, json};

/// Spans of one trace, by start, and the facts a list shows about them.
#[derive(Debug)]
pub(crate) struct Trace {
    /// 32 lower-case hexadecimal digits.
    pub(crate) id: String,
    pub(crate) spans: Vec<Span>,
    /// Positions in `spans` by the id of the parent, so that a long trace is walked in one pass.
    below: HashMap<String, Vec<usize>>,
}

/// One span.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) id: String,
    /// Empty for the first span of a trace.
    pub(crate) parent: String,
    /// `service.name` of the process that recorded it.
    pub(crate) service: Arc<str>,
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    /// Nanoseconds since 1970.
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) attributes: BTreeMap<String, Json>,
    pub(crate) events: Vec<Event>,
    pub(crate) failed: bool,
    /// What the failed status says, empty when it says nothing.
    pub(crate) status_message: String,
}

/// Something that happened during a span, such as an exception.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) at: u64,
    pub(crate) name: String,
    pub(crate) attributes: BTreeMap<String, Json>,
}

/// Groups the spans of `exports` by trace, newest trace first.
pub(crate) fn assemble(exports: Vec<ExportTraceServiceRequest>) -> Vec<Trace> {
    let mut traces: BTreeMap<Vec<u8>, Vec<Span>> = BTreeMap::new();
    // An exporter that missed our answer sends the same spans again.
    let mut seen: BTreeSet<(Vec<u8>, Vec<u8>)> = BTreeSet::new();
    for resource in exports.into_iter().flat_map(|export| export.resource_spans) {
        let described = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
        let service: Arc<str> = Arc::from(service_name(&described));
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            if seen.insert((span.trace_id.clone(), span.span_id.clone())) {
                let spans = traces.entry(span.trace_id.clone()).or_default();
                spans.push(Span::new(span, &service));
            }
        }
    }
    let mut traces: Vec<Trace> =
        traces.into_iter().map(|(id, spans)| Trace::new(hex(&id), spans)).collect();
    traces.sort_by_key(|trace| std::cmp::Reverse(trace.start()));
    traces
}

impl Trace {
    fn new(id: String, mut spans: Vec<Span>) -> Self {
        spans.sort_by_key(|span| (span.start, std::cmp::Reverse(span.end)));
        let mut below: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, span) in spans.iter().enumerate() {
            below.entry(span.parent.clone()).or_default().push(index);
        }
        Self { id, spans, below }
    }

    /// The span nothing in this trace is above of: the first one without a parent, or, when the
    /// caller does not export here, the earliest whose parent is unknown.
    pub(crate) fn root(&self) -> Option<&Span> {
        let without_parent = self.spans.iter().find(|span| span.parent.is_empty());
        without_parent.or_else(|| self.tops().next())
    }

    /// Spans whose parent was not exported here, by start.
    pub(crate) fn tops(&self) -> impl Iterator<Item = &Span> {
        let known: BTreeSet<&str> = self.spans.iter().map(|span| span.id.as_str()).collect();
        self.spans.iter().filter(move |span| !known.contains(span.parent.as_str()))
    }

    /// The spans directly below one, by start.
    pub(crate) fn children(&self, parent: &str) -> impl DoubleEndedIterator<Item = &Span> {
        self.below.get(parent).into_iter().flatten().map(|index| &self.spans[*index])
    }

    /// When the earliest span started, in nanoseconds since 1970.
    pub(crate) fn start(&self) -> u64 {
        self.spans.first().map_or(0, |span| span.start)
    }

    /// From the earliest start to the latest end, in nanoseconds.
    pub(crate) fn duration(&self) -> u64 {
        let end = self.spans.iter().map(|span| span.end).max().unwrap_or(0);
        end.saturating_sub(self.start())
    }

    /// The processes that took part, by name.
    pub(crate) fn services(&self) -> BTreeSet<&str> {
        self.spans.iter().map(|span| &*span.service).collect()
    }

    pub(crate) fn errors(&self) -> usize {
        self.spans.iter().filter(|span| span.failed).count()
    }

    /// Whether every call to another process of ours has its other half.
    ///
    /// Processes export on their own schedules, so a trace arrives in pieces. `root` is the span
    /// of a caller that does not export.
    pub(crate) fn is_complete(&self, root: &str) -> bool {
        let arrived = self.tops().all(|span| span.parent.is_empty() || span.parent == root);
        let answered = |span: &Span| {
            let gave_up = matches!(
                span.rpc_status(),
                Some("UNAVAILABLE" | "DEADLINE_EXCEEDED" | "CANCELLED")
            );
            // Such a call may never have reached the other process.
            gave_up || self.children(&span.id).next().is_some()
        };
        let calls = self.spans.iter().filter(|span| {
            span.kind == SpanKind::Client && span.attributes.contains_key("rpc.system.name")
        });
        arrived && calls.into_iter().all(answered)
    }
}

impl Span {
    fn new(span: otlp::Span, service: &Arc<str>) -> Self {
        let kind = span.kind();
        let status = span.status.unwrap_or_default();
        Self {
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            service: Arc::clone(service),
            name: span.name,
            kind,
            start: span.start_time_unix_nano,
            end: span.end_time_unix_nano,
            attributes: attributes(span.attributes),
            events: span.events.into_iter().map(Event::new).collect(),
            failed: status.code() == StatusCode::Error,
            status_message: status.message,
        }
    }

    pub(crate) fn duration(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// A text attribute.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.attributes.get(key).and_then(Json::as_str)
    }

    /// How an RPC ended, under the name the conventions have and the one they had.
    pub(crate) fn rpc_status(&self) -> Option<&str> {
        self.text("rpc.response.status_code").or_else(|| self.text("rpc.status_code"))
    }

    /// What `--json` prints.
    pub(crate) fn to_json(&self) -> Json {
        json!({
            "span_id": self.id,
            "parent_span_id": self.parent,
            "service": &*self.service,
            "name": self.name,
            "kind": self.kind.as_str_name(),
            "start_unix_nano": self.start.to_string(),
            "duration_ns": self.duration(),
            "error": self.failed,
            "status_message": self.status_message,
            "attributes": self.attributes,
            "events": self.events.iter().map(Event::to_json).collect::<Vec<_>>(),
        })
    }
}

impl Event {
    fn new(event: otlp::span::Event) -> Self {
        Self {
            at: event.time_unix_nano,
            name: event.name,
            attributes: attributes(event.attributes),
        }
    }

    fn to_json(&self) -> Json {
        json!({
            "name": self.name,
            "time_unix_nano": self.at.to_string(),
            "attributes": self.attributes,
        })
    }
}

fn service_name(attributes: &[KeyValue]) -> &str {
    let named = attributes.iter().find(|attribute| attribute.key == "service.name");
    match named.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(name)) => name,
        _ => "unknown",
    }
}

fn attributes(list: Vec<KeyValue>) -> BTreeMap<String, Json> {
    list.into_iter().map(|attribute| (attribute.key, json_of(attribute.value))).collect()
}

fn json_of(value: Option<AnyValue>) -> Json {
    match value.and_then(|value| value.value) {
        None => Json::Null,
        Some(Value::StringValue(text)) => Json::from(text),
        Some(Value::BoolValue(flag)) => Json::from(flag),
        Some(Value::IntValue(number)) => Json::from(number),
        Some(Value::DoubleValue(number)) => Json::from(number),
        Some(Value::BytesValue(bytes)) => Json::from(hex(&bytes)),
        Some(Value::ArrayValue(list)) => {
            list.values.into_iter().map(|value| json_of(Some(value))).collect()
        }
        Some(Value::KvlistValue(list)) => {
            list.values.into_iter().map(|entry| (entry.key, json_of(entry.value))).collect()
        }
        // An index into a dictionary of the profiles signal; traces carry none.
        Some(Value::StringValueStrindex(index)) => Json::from(index),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
