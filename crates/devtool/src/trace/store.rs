//! The newest traces on disk, bounded by spans and by bytes.
//!
//! One process writes; any number read the files while it does. What [`Store::append`] has
//! returned from survives the end of the process, though not of the machine: nothing is synced.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;

use super::segment::{self, Records};

/// What the files end in.
const EXTENSION: &str = "otlp";

/// The oldest part is dropped as a whole, so a store at its bounds keeps 7/8 of them at least.
const SEGMENTS_PER_STORE: u64 = 8;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Spans in all segments together.
    pub(crate) spans_max: u64,
    /// Bytes in all segments together.
    pub(crate) bytes_max: u64,
}

impl Limits {
    /// Some hours of work by hand: about 5,000 requests of ten spans, read within a second.
    pub(crate) const DEFAULT: Self = Self { spans_max: 50_000, bytes_max: 64 << 20 };
}

/// The writer's side.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    limits: Limits,
    /// Oldest first; the last one is being written.
    segments: VecDeque<Segment>,
    file: File,
}

#[derive(Clone, Copy, Debug, Default)]
struct Segment {
    number: u64,
    bytes: u64,
    spans: u64,
}

impl Store {
    /// Opens the store in `dir` and repairs what a killed writer has left.
    ///
    /// # Errors
    ///
    /// When the folder or a file in it cannot be read or written.
    pub(crate) fn open(dir: &Path, limits: Limits) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let mut segments = VecDeque::new();
        for number in numbers(dir)? {
            let path = path_of(dir, number);
            let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            segments.push_back(measure(number, &bytes));
        }
        if segments.is_empty() {
            segments.push_back(Segment { number: 1, ..Segment::default() });
        }
        let current = segments.back().copied().unwrap_or_default();
        let file = open_segment(dir, current.number)?;
        // Appending behind a torn record would hide everything that follows from readers.
        file.set_len(current.bytes).context("cut off a torn record")?;
        Ok(Self { dir: dir.to_path_buf(), limits, segments, file })
    }

    /// Stores one export, and drops the oldest segment when the store is over its bounds.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; the store is as it was before.
    pub(crate) fn append(&mut self, export: &ExportTraceServiceRequest) -> anyhow::Result<()> {
        let payload = export.encode_to_vec();
        let spans = spans_in(export);
        self.rotate_if_full()?;
        let Some(current) = self.segments.back_mut() else {
            anyhow::bail!("the store has no open segment");
        };
        match segment::append(&mut self.file, &payload) {
            Ok(written) => {
                current.bytes += written;
                current.spans += spans;
            }
            Err(error) => {
                // A full disk tears a record like a kill does, and the next one would follow it.
                self.file.set_len(current.bytes).context("cut off a torn record")?;
                return Err(error).context("write a trace segment");
            }
        }
        self.drop_oldest()
    }

    fn rotate_if_full(&mut self) -> anyhow::Result<()> {
        let current = self.segments.back().copied().unwrap_or_default();
        let full = current.bytes >= self.limits.bytes_max / SEGMENTS_PER_STORE
            || current.spans >= self.limits.spans_max / SEGMENTS_PER_STORE;
        if full && current.bytes > 0 {
            let number = current.number + 1;
            self.file = open_segment(&self.dir, number)?;
            self.segments.push_back(Segment { number, ..Segment::default() });
        }
        Ok(())
    }

    fn drop_oldest(&mut self) -> anyhow::Result<()> {
        let over = |segments: &VecDeque<Segment>| {
            segments.iter().map(|segment| segment.bytes).sum::<u64>() > self.limits.bytes_max
                || segments.iter().map(|segment| segment.spans).sum::<u64>() > self.limits.spans_max
        };
        while self.segments.len() > 1 && over(&self.segments) {
            if let Some(oldest) = self.segments.pop_front() {
                let path = path_of(&self.dir, oldest.number);
                fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
            }
        }
        Ok(())
    }
}

/// Every whole export in `dir`, oldest first. A folder that does not exist holds none.
///
/// # Errors
///
/// When a file exists but cannot be read.
pub(crate) fn read(dir: &Path) -> anyhow::Result<Vec<ExportTraceServiceRequest>> {
    let mut exports = Vec::new();
    for number in numbers(dir)? {
        let path = path_of(dir, number);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            // The writer has dropped it since we listed the folder.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(error).with_context(|| format!("read {}", path.display()));
            }
        };
        exports.extend(Records::new(&bytes).map_while(decode));
    }
    Ok(exports)
}

fn decode(payload: &[u8]) -> Option<ExportTraceServiceRequest> {
    ExportTraceServiceRequest::decode(payload).ok()
}

fn measure(number: u64, bytes: &[u8]) -> Segment {
    let mut records = Records::new(bytes);
    let spans = records.by_ref().filter_map(decode).map(|export| spans_in(&export)).sum();
    let bytes = u64::try_from(records.bytes_read()).unwrap_or(u64::MAX);
    Segment { number, bytes, spans }
}

fn spans_in(export: &ExportTraceServiceRequest) -> u64 {
    let scopes = export.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    scopes.map(|scope| u64::try_from(scope.spans.len()).unwrap_or(u64::MAX)).sum()
}

fn open_segment(dir: &Path, number: u64) -> anyhow::Result<File> {
    let path = path_of(dir, number);
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    options.open(&path).with_context(|| format!("open {}", path.display()))
}

fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.{EXTENSION}"))
}

/// The numbers of the segments in `dir`, oldest first.
fn numbers(dir: &Path) -> anyhow::Result<Vec<u64>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("list {}", dir.display())),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("list {}", dir.display()))?.path();
        let ours = path.extension().is_some_and(|extension| extension == EXTENSION);
        let number: Option<u64> = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        numbers.extend(number.filter(|_| ours));
    }
    numbers.sort_unstable();
    Ok(numbers)
}
