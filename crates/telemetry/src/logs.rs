//! Log lines: one event a line on stderr, as text or JSON.

use std::fmt;
use std::io::{IsTerminal, stderr};

use forebay_config::LogFormat;
use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::{LookupSpan, Registry};

/// The layer that writes log lines to stderr.
pub(crate) fn layer(
    format: LogFormat,
    service: &'static str,
) -> impl tracing_subscriber::Layer<Registry> + use<> {
    layer_to(stderr, stderr().is_terminal(), format, service)
}

fn layer_to<W>(
    writer: W,
    is_terminal: bool,
    format: LogFormat,
    service: &'static str,
) -> impl tracing_subscriber::Layer<Registry> + use<W>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(is_terminal && format == LogFormat::Text)
        // It would report a closed stderr by panicking on stderr.
        .log_internal_errors(false)
        .event_format(Line { format, service })
}

/// Formats one event as one line.
struct Line {
    format: LogFormat,
    service: &'static str,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let target = fields.log_target.take();
        let target = target.as_deref().unwrap_or(event.metadata().target());
        match self.format {
            LogFormat::Text => text(&mut writer, event, target, fields),
            LogFormat::Json => json(&mut writer, event, target, fields, self.service),
        }
    }
}

fn text(writer: &mut Writer<'_>, event: &Event<'_>, target: &str, fields: Fields) -> fmt::Result {
    SystemTime.format_time(writer)?;
    let level = event.metadata().level();
    if writer.has_ansi_escapes() {
        write!(writer, " \x1b[{}m{level:>5}\x1b[0m ", color(level))?;
    } else {
        write!(writer, " {level:>5} ")?;
    }
    write!(writer, "{target}: {}", printable(&fields.message))?;
    for (name, value) in &fields.others {
        match value {
            Value::String(text) if is_word(text) => write!(writer, " {name}={text}")?,
            value => write!(writer, " {name}={value}")?,
        }
    }
    if let Some((trace_id, span_id)) = current_span() {
        write!(writer, " trace_id={trace_id} span_id={span_id}")?;
    }
    writeln!(writer)
}

fn json(
    writer: &mut Writer<'_>,
    event: &Event<'_>,
    target: &str,
    fields: Fields,
    service: &str,
) -> fmt::Result {
    let mut timestamp = String::new();
    SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
    let mut line = Map::new();
    let mut put = |name: &str, value: Value| _ = line.insert(name.to_owned(), value);
    put("timestamp", timestamp.into());
    put("level", event.metadata().level().as_str().into());
    put("service", service.into());
    put("target", target.into());
    put("message", fields.message.into());
    if let Some((trace_id, span_id)) = current_span() {
        put("trace_id", trace_id.into());
        put("span_id", span_id.into());
    }
    put("fields", Value::Object(fields.others));
    writeln!(writer, "{}", Value::Object(line))
}

/// The ids of the span the event happened in, whether or not it is sampled.
fn current_span() -> Option<(String, String)> {
    Context::map_current(|context| {
        let span = context.span();
        let context = span.span_context();
        let ids = || (context.trace_id().to_string(), context.span_id().to_string());
        context.is_valid().then(ids)
    })
}

fn color(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    }
}

/// Whether text needs no quotes to be read back from a line.
fn is_word(text: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '"' && c != '=';
    !text.is_empty() && text.chars().all(plain)
}

/// Text that cannot break its line: whatever a peer sent, an event stays one line.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            printable.extend(c.escape_default());
        } else {
            printable.push(c);
        }
    }
    printable
}

/// The fields of one event.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
    /// The target of an event that came through the `log` crate.
    log_target: Option<String>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("log.target", Value::String(text)) => self.log_target = Some(text),
            (name, _) if name.starts_with("log.") => {}
            (name, value) => _ = self.others.insert(name.to_owned(), value),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let chain = std::iter::successors(Some(value), |error| error.source());
        let text: Vec<String> = chain.map(ToString::to_string).collect();
        self.put(field, text.join(": ").into());
    }
}

#[cfg(test)]
mod tests;
