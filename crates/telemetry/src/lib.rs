//! Traces, metrics and logs: one start, one flush.
