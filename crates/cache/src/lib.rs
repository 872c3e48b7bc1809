//! The two-level cache: moka in front of Redis in front of a loader.
