//! Telemetry against a real OTLP receiver in this process.

mod collector;
mod export;
mod filter;
