//! What is recorded through the OpenTelemetry API comes out as OpenMetrics text.

use super::*;
use crate::exposition::render;

fn exposed(record: impl FnOnce(&opentelemetry::metrics::Meter)) -> String {
    let queue = Arc::new(SpanQueue::new(1));
    let resource = Resource::builder_empty().with_service_name("test").build();
    let (provider, registry) = provider(resource, &queue).unwrap();
    record(&provider.meter("test"));
    render(&registry.gather()).body
}

/// OpenMetrics differs from the older text: a counter's family has no `_total`, every
/// bucket bound is a float, and the text ends with `# EOF`.
#[test]
fn every_kind_is_rendered_as_openmetrics() {
    let body = exposed(|meter| {
        let lookups = meter.u64_counter("cache.lookups").with_description("Look \"ups\"\n").build();
        lookups.add(2, &[KeyValue::new("outcome", "hit \"L1\"\n\\")]);
        meter.i64_up_down_counter("connections").build().add(-3, &[]);
        meter.f64_gauge("share").build().record(0.5, &[]);
        let durations = meter.f64_histogram("rpc.server.call.duration").with_unit("s").build();
        durations.record(0.0002, &[]);
        durations.record(60.0, &[]);
    });
    for line in [
        "# TYPE cache_lookups counter",
        "# HELP cache_lookups Look \\\"ups\\\"\\n",
        "cache_lookups_total{outcome=\"hit \\\"L1\\\"\\n\\\\\"} 2.0",
        "# TYPE connections gauge",
        "connections -3.0",
        "share 0.5",
        "# TYPE rpc_server_call_duration_seconds histogram",
        "rpc_server_call_duration_seconds_bucket{le=\"0.0001\"} 0",
        "rpc_server_call_duration_seconds_bucket{le=\"0.00025\"} 1",
        "rpc_server_call_duration_seconds_bucket{le=\"10.0\"} 1",
        "rpc_server_call_duration_seconds_bucket{le=\"+Inf\"} 2",
        "rpc_server_call_duration_seconds_count 2",
        "target_info{service_name=\"test\"} 1.0",
        "otel_sdk_processor_span_processed_total{error_type=\"queue_full\"} 0.0",
    ] {
        assert!(body.lines().any(|actual| actual == line), "no line {line:?} in\n{body}");
    }
    assert!(body.ends_with("\n# EOF\n"));
    assert_eq!(body.matches("# EOF").count(), 1);
}

/// A family may appear once only, also when two meters record under one name.
#[test]
fn families_are_not_repeated() {
    let body = exposed(|meter| {
        for outcome in ["hit", "miss"] {
            let lookups = meter.u64_counter("cache.lookups").build();
            lookups.add(1, &[KeyValue::new("outcome", outcome)]);
        }
    });
    assert_eq!(body.matches("# TYPE cache_lookups counter").count(), 1, "{body}");
    assert_eq!(body.matches("cache_lookups_total{").count(), 2, "{body}");
}
