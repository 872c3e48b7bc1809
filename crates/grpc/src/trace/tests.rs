//! Which headers name a span, and what is written for one.

use http::{HeaderMap, HeaderValue};

use super::{TRACEPARENT, TRACESTATE, extract, inject, trace_id_value};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn headers(parent: &str, state: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(TRACEPARENT, HeaderValue::from_str(parent).expect("a value"));
    if let Some(state) = state {
        headers.insert(TRACESTATE, HeaderValue::from_str(state).expect("a value"));
    }
    headers
}

#[test]
fn what_comes_in_goes_out() {
    for (parent, state) in [
        (PARENT, None),
        (PARENT, Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", None),
    ] {
        let given = headers(parent, state);
        let span = extract(&given).expect("valid");
        assert!(span.is_remote());
        let mut sent = HeaderMap::new();
        inject(&span, &mut sent);
        assert_eq!(sent, given);
        assert_eq!(trace_id_value(span.trace_id()), "0af7651916cd43dd8448eb211c80319c");
    }
}

#[test]
fn reads_later_versions_and_drops_a_broken_state() {
    let later = format!("cc{}-what-comes-later", &PARENT[2..]);
    assert!(extract(&headers(&later, None)).expect("valid").is_sampled());
    let span = extract(&headers(PARENT, Some("no equals sign"))).expect("valid");
    assert_eq!(span.trace_state().header(), "");
}

#[test]
fn refuses_what_the_standard_forbids() {
    for bad in [
        "",
        "00",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
    ] {
        assert!(extract(&headers(bad, None)).is_none(), "{bad}");
    }
    assert!(extract(&HeaderMap::new()).is_none());
}
