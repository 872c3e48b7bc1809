//! What was asked for on the command line.

use std::ffi::OsString;
use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use lexopt::prelude::*;

/// What `--help` says.
pub(super) const USAGE: &str =
    "usage: cargo xtask call                                    list services
       cargo xtask call pkg.Service                        list methods
       cargo xtask call pkg.Service/Method ['{json}' | -]  call; - reads the request from stdin
options: [--addr HOST:PORT | --instance NAME] [-H KEY:VALUE]... [--timeout 10s] [--trace]";

/// How long a call may take when nobody says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long `--trace` waits for the last service to export. Ours export at once; others may batch
/// for five seconds, which is what OpenTelemetry's exporters do unless they are told otherwise.
pub(super) const TRACE_TIMEOUT: Duration = Duration::from_secs(10);

/// What was asked for.
#[derive(Debug)]
pub(super) struct Arguments {
    pub(super) service: Option<String>,
    pub(super) method: Option<String>,
    /// The request as JSON.
    pub(super) request: String,
    pub(super) address: Option<String>,
    pub(super) instance: Option<String>,
    /// Names in lower case, as gRPC wants them.
    pub(super) headers: Vec<(String, String)>,
    pub(super) timeout: Duration,
    pub(super) trace: bool,
}

/// Reads the command line; nothing when it asks for help.
pub(super) fn parse(args: Vec<OsString>) -> anyhow::Result<Option<Arguments>> {
    let mut parsed = Arguments {
        service: None,
        method: None,
        request: "{}".to_owned(),
        address: None,
        instance: None,
        headers: Vec::new(),
        timeout: TIMEOUT,
        trace: false,
    };
    let mut positional = Vec::new();
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(argument) = parser.next().context(USAGE)? {
        match argument {
            // A lone dash is a value to lexopt as well.
            Value(text) => positional.push(text.string().context(USAGE)?),
            Long("help") => return Ok(None),
            Long("addr") => parsed.address = Some(parser.value()?.string()?),
            Long("instance") => parsed.instance = Some(parser.value()?.string()?),
            Long("timeout") => parsed.timeout = duration(&parser.value()?.string()?)?,
            Long("trace") => parsed.trace = true,
            Short('H') | Long("header") => {
                parsed.headers.push(header(&parser.value()?.string()?)?);
            }
            other => return Err(other.unexpected()).context(USAGE),
        }
    }
    let mut positional = positional.into_iter();
    if let Some(symbol) = positional.next() {
        // `/pkg.Service/Method` is how the path looks on the wire.
        match symbol.trim_start_matches('/').split_once('/') {
            Some((service, method)) => {
                parsed.service = Some(service.to_owned());
                parsed.method = Some(method.to_owned());
            }
            None => parsed.service = Some(symbol),
        }
    }
    match positional.next() {
        Some(request) if request == "-" => parsed.request = read_stdin()?,
        Some(request) => parsed.request = request,
        None => {}
    }
    if let Some(unexpected) = positional.next() {
        bail!("unexpected argument {unexpected:?}\n{USAGE}");
    }
    Ok(Some(parsed))
}

fn read_stdin() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("read the request from the standard input")?;
    Ok(text)
}

fn header(text: &str) -> anyhow::Result<(String, String)> {
    let (key, value) = text
        .split_once(':')
        .with_context(|| format!("{text:?} is no header: expected KEY:VALUE"))?;
    Ok((key.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

/// `250ms`, `10s`, `2m`; a bare number counts seconds.
fn duration(text: &str) -> anyhow::Result<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit) = text.split_at(unit_at);
    let millis: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        _ => bail!("{text:?} is no duration: expected one like 250ms, 10s or 2m"),
    };
    let count: u64 = count
        .parse()
        .with_context(|| format!("{text:?} is no duration: expected one like 250ms, 10s or 2m"))?;
    let total = count.checked_mul(millis).with_context(|| format!("{text:?} is too long"))?;
    Ok(Duration::from_millis(total))
}
