//! The log of one process, bounded in size, each line with the time at which it arrived.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;

use crate::trace::clock::Utc;

/// A log that reaches this size moves aside, replacing the one moved before.
pub(crate) const BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Where a full log is moved: `NAME.log.1`.
pub(crate) fn older(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

/// An open log.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
}

impl LogFile {
    /// Opens the log at `path`, going on where an earlier run left off.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub(crate) fn open(path: PathBuf) -> anyhow::Result<Self> {
        Self::with_limit(path, BYTES_MAX)
    }

    fn with_limit(path: PathBuf, bytes_max: u64) -> anyhow::Result<Self> {
        let file = append(&path).with_context(|| format!("open {}", path.display()))?;
        let bytes = file.metadata().map(|meta| meta.len()).unwrap_or(0);
        Ok(Self { path, file, bytes, bytes_max })
    }

    /// Adds one line. A full disk loses lines and nothing else, so there is no error to handle.
    pub(crate) fn write(&mut self, line: &str) {
        let line = format!("{} {line}\n", now());
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.bytes.saturating_add(length) > self.bytes_max && self.rotate().is_ok() {
            self.bytes = 0;
        }
        if self.file.write_all(line.as_bytes()).is_ok() {
            self.bytes = self.bytes.saturating_add(length);
        }
    }

    fn rotate(&mut self) -> std::io::Result<()> {
        std::fs::rename(&self.path, older(&self.path))?;
        self.file = append(&self.path)?;
        Ok(())
    }
}

/// The time now, as every log line begins.
fn now() -> Utc {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Utc(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

fn append(path: &Path) -> std::io::Result<File> {
    File::options().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_never_outgrows_its_bound_and_keeps_the_newest() {
        let dir = std::env::temp_dir().join(format!("forebay-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("x.log");
        let mut log = LogFile::with_limit(path.clone(), 200).unwrap();
        for n in 0..100 {
            log.write(&format!("line {n}"));
            assert!(std::fs::metadata(&path).unwrap().len() <= 200);
        }
        assert!(std::fs::metadata(older(&path)).unwrap().len() <= 200);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.ends_with("line 99\n"), "{text}");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
