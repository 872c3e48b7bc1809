//! The life of a process: settings, telemetry, signals, readiness, exit code.
