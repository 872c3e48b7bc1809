//! Which traces are recorded, and the log filter while running.

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use std::time::Duration;
use tracing::Level;
use tracing::dispatcher::with_default;

use crate::collector::Collector;
use crate::export::telemetry;

/// The head of a trace decides; a service in the middle that decided anew would cut
/// holes into every trace.
#[test]
fn a_callers_sampling_decision_wins() {
    let check = |ratio: &str, caller: Option<TraceFlags>, exported: bool| {
        let collector = Collector::start(0);
        let endpoint = collector.endpoint();
        let settings = [("otlp_endpoint", endpoint.as_str()), ("sample_ratio", ratio)];
        let (telemetry, dispatch) = telemetry(&settings);
        let context = match caller {
            Some(flags) => Context::new().with_remote_span_context(SpanContext::new(
                TraceId::from(7),
                SpanId::from(7),
                flags,
                true,
                TraceState::default(),
            )),
            None => Context::new(),
        };
        with_default(&dispatch, || {
            let _caller = context.attach();
            tracing::info_span!("span").in_scope(|| {});
        });
        telemetry.flush(Duration::from_secs(20)).unwrap();
        assert_eq!(!collector.spans().is_empty(), exported, "{ratio} {caller:?}");
    };
    check("1.0", None, true);
    check("0.0", None, false);
    check("0.0", Some(TraceFlags::SAMPLED), true);
    check("1.0", Some(TraceFlags::NOT_SAMPLED), false);
}

#[test]
fn the_log_filter_changes_while_running() {
    let (telemetry, dispatch) = telemetry(&[("log_filter", "warn")]);
    let handle = telemetry.handle();
    let check = |filter: &str, enabled: bool| {
        handle.set_log_filter(filter).unwrap();
        assert_eq!(handle.log_filter(), filter);
        let actual = with_default(
            &dispatch,
            || tracing::event_enabled!(target: "forebay_cache", Level::DEBUG),
        );
        assert_eq!(actual, enabled, "{filter}");
    };
    assert_eq!(handle.log_filter(), "warn");
    check("info", false);
    check("info,forebay_cache=debug", true);
    check("debug,forebay_cache=info", false);
    // A filter that cannot be read changes nothing.
    assert!(handle.set_log_filter("forebay=loud").is_err());
    assert_eq!(handle.log_filter(), "debug,forebay_cache=info");
}

#[test]
fn without_an_endpoint_spans_have_ids_and_are_not_recorded() {
    let (telemetry, dispatch) = telemetry(&[]);
    with_default(&dispatch, || {
        let _span = tracing::info_span!("span").entered();
        let context = Context::current();
        assert!(context.span().span_context().is_valid());
        assert!(!context.span().span_context().is_sampled());
    });
    telemetry.flush(Duration::from_secs(1)).unwrap();
}
