//! `[process]`: the life of the process itself.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::reader::Reader;

/// The life of the process itself.
#[derive(Debug, Clone)]
pub struct ProcessConfig {
    /// How long a stop may take from the signal to the exit.
    pub shutdown_timeout: Duration,
}

impl ProcessConfig {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let shutdown_timeout = reader.duration("process.shutdown_timeout", LIMITS);
        Some(Self { shutdown_timeout: shutdown_timeout? })
    }
}

const LIMITS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
