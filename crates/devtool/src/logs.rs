//! `cargo xtask logs`: what the processes of an instance have written, in the order of time.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use lexopt::prelude::*;

use self::line::{Level, level_of};
use crate::workspace::{Instance, Workspace};
use crate::{say, stdout};

pub(crate) mod line;

const USAGE: &str = "usage: cargo xtask logs [OPTIONS]
  -f, --follow     go on with what is written from now on
  --svc NAME       only this process: token-server, pool-server, postgres, redis
  --grep TEXT      only lines that hold this text
  --level LEVEL    only lines of this level or above: debug, info, warn, error
  -n, --lines N    so many lines of the past, 200 unless told
  --instance NAME";

/// Lines of the past that are shown unless told.
const LINES: usize = 200;

/// How often a followed log is looked at.
const STEP: Duration = Duration::from_millis(100);

/// Which lines are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    svc: Option<String>,
    grep: Option<String>,
    level: Option<Level>,
}

impl Filter {
    /// Whether a line is wanted. A line without a level belongs to the line before it, whose
    /// level is `last`.
    fn wants(&self, text: &str, last: &mut Option<Level>) -> bool {
        if let Some(level) = level_of(text) {
            *last = Some(level);
        }
        self.level.is_none_or(|wanted| last.is_some_and(|level| level >= wanted))
            && self.grep.as_ref().is_none_or(|grep| text.contains(grep.as_str()))
    }
}

/// Prints logs.
///
/// # Errors
///
/// When the arguments are wrong or the logs cannot be read.
pub(crate) fn run(args: Vec<OsString>, workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let (mut filter, mut lines, mut following) = (Filter::default(), LINES, false);
    let mut instance = None;
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next().context(USAGE)? {
        match arg {
            Short('f') | Long("follow") => following = true,
            Long("svc") => filter.svc = Some(parser.value()?.string()?),
            Long("grep") => filter.grep = Some(parser.value()?.string()?),
            Long("level") => {
                let name = parser.value()?.string()?;
                let level = Level::parse(&name).with_context(|| format!("no level {name:?}"))?;
                filter.level = Some(level);
            }
            Short('n') | Long("lines") => lines = parser.value()?.parse().context(USAGE)?,
            Long("instance") => instance = Some(parser.value()?.string()?),
            Long("help") | Short('h') => {
                say::line(USAGE);
                return Ok(ExitCode::SUCCESS);
            }
            other => bail!("{}\n{USAGE}", other.unexpected()),
        }
    }
    let instance = workspace.instance(instance.as_deref())?;
    let files = files(&instance, &filter);
    if files.is_empty() && !following {
        match &filter.svc {
            Some(svc) => bail!("no log of {svc} in {}", instance.logs_dir().display()),
            None => bail!("no logs in {}: cargo xtask dev", instance.logs_dir().display()),
        }
    }
    stdout::write(&past(&files, &filter, lines)?)?;
    if following {
        follow(&instance, &filter)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what is written from now on, until the process is ended or nobody reads any more.
///
/// # Errors
///
/// When a log cannot be read.
pub(crate) fn follow(instance: &Instance, filter: &Filter) -> anyhow::Result<()> {
    let mut tails: BTreeMap<String, Tail> = BTreeMap::new();
    for (name, path) in files(instance, filter) {
        tails.insert(name, Tail::at_end(path)?);
    }
    loop {
        // A process that starts later brings a log of its own.
        for (name, path) in files(instance, filter) {
            tails.entry(name).or_insert_with(|| Tail::new(path));
        }
        let mut lines = Vec::new();
        for (name, tail) in &mut tails {
            for stamped in tail.read()? {
                let text = line::without_time(&stamped);
                if filter.wants(text, &mut tail.level) {
                    lines.push((stamped.clone(), line::with_name(name, text)));
                }
            }
        }
        lines.sort();
        let text: String = lines.iter().map(|(_, line)| format!("{line}\n")).collect();
        if !text.is_empty() && !stdout::still_read(&text) {
            return Ok(());
        }
        forebay_provision::pause(STEP);
    }
}

/// The logs of an instance by the name of their process.
fn files(instance: &Instance, filter: &Filter) -> Vec<(String, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(instance.logs_dir()) else {
        return Vec::new();
    };
    let mut files: Vec<(String, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let path = entry.path();
            let name = path.file_name()?.to_str()?.strip_suffix(".log")?.to_owned();
            Some((name, path))
        })
        // The supervisor's own words are not stamped; they are the output of `dev`.
        .filter(|(name, _)| name != "supervisor")
        .filter(|(name, _)| filter.svc.as_ref().is_none_or(|svc| svc == name))
        .collect();
    files.sort();
    files
}

/// The last `count` wanted lines of all files together, oldest first.
fn past(files: &[(String, PathBuf)], filter: &Filter, count: usize) -> anyhow::Result<String> {
    let mut lines: Vec<(String, String)> = Vec::new();
    for (name, path) in files {
        let mut level = None;
        let older = crate::dev::older_log(path);
        for path in [older.as_path(), path] {
            if !path.exists() {
                continue;
            }
            for stamped in read_lines(path)? {
                let text = line::without_time(&stamped);
                if filter.wants(text, &mut level) {
                    lines.push((stamped.clone(), line::with_name(name, text)));
                }
            }
        }
    }
    // Every line begins with its time, in a form that sorts. Lines of one time keep their order.
    lines.sort_by(|(one, _), (other, _)| line::time(one).cmp(line::time(other)));
    let from = lines.len().saturating_sub(count);
    Ok(lines[from..].iter().map(|(_, line)| format!("{line}\n")).collect())
}

fn read_lines(path: &Path) -> anyhow::Result<Vec<String>> {
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect())
}

/// The end of a growing file.
struct Tail {
    path: PathBuf,
    bytes: u64,
    level: Option<Level>,
}

impl Tail {
    fn new(path: PathBuf) -> Self {
        Self { path, bytes: 0, level: None }
    }

    fn at_end(path: PathBuf) -> anyhow::Result<Self> {
        let bytes =
            std::fs::metadata(&path).with_context(|| format!("look at {}", path.display()))?.len();
        Ok(Self { bytes, ..Self::new(path) })
    }

    /// The whole lines written since the last time.
    fn read(&mut self) -> anyhow::Result<Vec<String>> {
        let failed = || format!("read {}", self.path.display());
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            // It is just being moved aside because it is full.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(failed),
        };
        if file.metadata().with_context(failed)?.len() < self.bytes {
            self.bytes = 0;
        }
        file.seek(SeekFrom::Start(self.bytes)).with_context(failed)?;
        let mut reader = BufReader::new(file);
        let mut lines = Vec::new();
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            reader.read_until(b'\n', &mut bytes).with_context(failed)?;
            if !bytes.ends_with(b"\n") {
                return Ok(lines);
            }
            self.bytes += u64::try_from(bytes.len()).unwrap_or(0);
            lines.push(String::from_utf8_lossy(&bytes).trim_end().to_owned());
        }
    }
}

#[cfg(test)]
mod tests;
