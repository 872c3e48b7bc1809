//! The life of real processes: the example `tiny`, driven through its standard input.

#[path = "../../../telemetry/tests/it/collector.rs"]
mod collector;
mod ends;
mod probes;
mod settings;
mod tiny;
