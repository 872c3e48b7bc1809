//! The OpenMetrics 1.0 text format.
//!
//! The `prometheus` crate writes the older text format only, which is not valid
//! OpenMetrics: a counter's family there carries the `_total` of its samples, and the
//! text has no `# EOF`, so a reply that was cut short looks complete.

use std::fmt::Write;

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use crate::handle::Exposition;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Renders metric families.
pub(crate) fn render(families: &[MetricFamily]) -> Exposition {
    let mut body = String::with_capacity(16 * 1024);
    for family in families {
        write_family(&mut body, family);
    }
    body.push_str("# EOF\n");
    Exposition { content_type: CONTENT_TYPE, body }
}

fn write_family(body: &mut String, family: &MetricFamily) {
    let kind = match family.get_field_type() {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        MetricType::SUMMARY => "summary",
        MetricType::UNTYPED => "unknown",
    };
    let name = match kind {
        "counter" => family.name().strip_suffix("_total").unwrap_or(family.name()),
        _ => family.name(),
    };
    line(body, format_args!("# TYPE {name} {kind}"));
    if !family.help().is_empty() {
        line(body, format_args!("# HELP {name} {}", escape(family.help())));
    }
    for metric in family.get_metric() {
        write_metric(body, name, family.get_field_type(), metric);
    }
}

fn write_metric(body: &mut String, name: &str, kind: MetricType, metric: &Metric) {
    let labels = metric.get_label();
    let mut sample = |suffix: &str, extra: Option<(&str, f64)>, value: Value| {
        line(body, format_args!("{name}{suffix}{} {value}", Labels(labels, extra)));
    };
    match kind {
        MetricType::COUNTER => {
            sample("_total", None, Value::Real(metric.get_counter().get_value()));
        }
        MetricType::GAUGE => sample("", None, Value::Real(metric.get_gauge().get_value())),
        MetricType::HISTOGRAM => {
            let histogram = metric.get_histogram();
            let count = histogram.get_sample_count();
            let finite = histogram.get_bucket().iter().filter(|b| b.upper_bound().is_finite());
            for bucket in finite {
                let bound = Some(("le", bucket.upper_bound()));
                sample("_bucket", bound, Value::Whole(bucket.cumulative_count()));
            }
            sample("_bucket", Some(("le", f64::INFINITY)), Value::Whole(count));
            sample("_sum", None, Value::Real(histogram.get_sample_sum()));
            sample("_count", None, Value::Whole(count));
        }
        MetricType::SUMMARY => {
            let summary = metric.get_summary();
            for quantile in summary.get_quantile() {
                let extra = Some(("quantile", quantile.quantile()));
                sample("", extra, Value::Real(quantile.value()));
            }
            sample("_sum", None, Value::Real(summary.sample_sum()));
            sample("_count", None, Value::Whole(summary.sample_count()));
        }
        // The registry is filled by OpenTelemetry alone, which has no untyped metrics.
        MetricType::UNTYPED => {}
    }
}

fn line(body: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(body, "{text}").expect("writing to a String cannot fail");
}

/// The value of a sample.
enum Value {
    Real(f64),
    Whole(u64),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(value) => write!(f, "{value}"),
            Self::Real(value) if *value == f64::INFINITY => f.write_str("+Inf"),
            Self::Real(value) if *value == f64::NEG_INFINITY => f.write_str("-Inf"),
            Self::Real(value) => write!(f, "{value:?}"),
        }
    }
}

/// The labels of a sample, the bound of a bucket last.
struct Labels<'a>(&'a [LabelPair], Option<(&'a str, f64)>);

impl std::fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut separator = '{';
        for label in self.0 {
            write!(f, "{separator}{}=\"{}\"", label.name(), escape(label.value()))?;
            separator = ',';
        }
        if let Some((name, value)) = self.1 {
            write!(f, "{separator}{name}=\"{}\"", Value::Real(value))?;
            separator = ',';
        }
        if separator == ',' { f.write_str("}") } else { Ok(()) }
    }
}

/// Escapes help texts and label values.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}
