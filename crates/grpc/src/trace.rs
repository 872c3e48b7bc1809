//! W3C trace context in HTTP headers.
//!
//! Format: W3C Trace Context, level 1. Written out here because it runs on
//! every call and needs no allocation when there is no `tracestate`.

use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

#[cfg(test)]
mod tests;

/// Name of the header that carries the ids.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Name of the header that carries what tracing systems add.
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Bytes of `traceparent` in version 00.
const TRACEPARENT_BYTES: usize = 55;
/// The only flag that version 00 defines.
const SAMPLED: u8 = 1;

/// The caller's span, if the headers name a valid one.
pub(crate) fn extract(headers: &HeaderMap) -> Option<SpanContext> {
    let parent = headers.get(&TRACEPARENT)?.as_bytes();
    let (trace_id, span_id, flags) = parse(parent)?;
    // A broken tracestate must not cost the trace: the standard says to drop it alone.
    let state = headers
        .get(&TRACESTATE)
        .and_then(|state| state.to_str().ok())
        .and_then(|state| TraceState::from_str(state).ok())
        .unwrap_or_default();
    Some(SpanContext::new(trace_id, span_id, flags, true, state))
}

/// Writes `span` into the headers, when it is valid.
pub(crate) fn inject(span: &SpanContext, headers: &mut HeaderMap) {
    if !span.is_valid() {
        return;
    }
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    write_hex(&mut text[3..35], &span.trace_id().to_bytes());
    write_hex(&mut text[36..52], &span.span_id().to_bytes());
    write_hex(&mut text[53..55], &[u8::from(span.is_sampled())]);
    headers.insert(TRACEPARENT, header_value(&text));
    let state = span.trace_state().header();
    if !state.is_empty()
        && let Ok(state) = HeaderValue::try_from(state)
    {
        headers.insert(TRACESTATE, state);
    }
}

/// A trace id as a header value.
pub(crate) fn trace_id_value(trace_id: TraceId) -> HeaderValue {
    let mut text = [0_u8; 32];
    write_hex(&mut text, &trace_id.to_bytes());
    header_value(&text)
}

fn header_value(text: &[u8]) -> HeaderValue {
    let value = HeaderValue::from_bytes(text);
    unique(value.expect("hexadecimal digits and dashes are a value"))
}

/// Keeps a value that never comes again out of the compression tables of the
/// connection, where it would push out the values that do, at a cost for both ends.
pub(crate) fn unique(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

fn parse(text: &[u8]) -> Option<(TraceId, SpanId, TraceFlags)> {
    let dashes = [2, 35, 52];
    let known = text.get(..TRACEPARENT_BYTES)?;
    if dashes.iter().any(|at| known[*at] != b'-') {
        return None;
    }
    let [version] = read_hex::<1>(&known[..2])?;
    // Version ff is forbidden, 00 has exactly this length, later ones may add fields.
    let extended = text.get(TRACEPARENT_BYTES);
    if version == 0xff || (version == 0 && extended.is_some()) {
        return None;
    }
    if extended.is_some_and(|next| *next != b'-') {
        return None;
    }
    let trace_id = TraceId::from_bytes(read_hex(&known[3..35])?);
    let span_id = SpanId::from_bytes(read_hex(&known[36..52])?);
    let [flags] = read_hex::<1>(&known[53..55])?;
    if trace_id == TraceId::INVALID || span_id == SpanId::INVALID {
        return None;
    }
    Some((trace_id, span_id, TraceFlags::new(flags & SAMPLED)))
}

fn read_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// The value of one digit; the standard allows lower case only.
fn digit(text: u8) -> Option<u8> {
    match text {
        b'0'..=b'9' => Some(text - b'0'),
        b'a'..=b'f' => Some(text - b'a' + 10),
        _ => None,
    }
}

fn write_hex(text: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}
