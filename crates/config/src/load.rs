//! Loading: lay the layers, read every section, compare, report everything at once.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{ConfigErrors, Problem};
use crate::invocation::Invocation;
use crate::layers::{Assignment, Entry, Layers, Raw};
use crate::reader::Reader;
use crate::sections::Config;
use crate::setting::Setting;
use crate::source::Source;

/// The reference of all settings with their defaults.
pub const DEFAULTS: &str = include_str!("../../../deploy/config/forebay.default.toml");

/// The settings in force.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings, typed.
    pub config: Config,
    /// The settings for people: each with its source, secrets redacted.
    pub settings: Vec<Setting>,
    /// What is allowed and yet should be known, to be logged once at the start.
    pub warnings: Vec<String>,
}

/// Loads the settings of a service.
///
/// # Errors
/// Every problem of every layer, when there is any.
pub fn load(service: &str, invocation: &Invocation) -> Result<Loaded, ConfigErrors> {
    let flags = invocation.flags();
    let mut layers = shared_layers(service, invocation);
    layers.problems.extend(flags.problems);
    layers.lay(flags.assignments.into_iter().map(flag_assignment).collect());
    let mut loaded = read(&layers)?;
    let budget = &mut loaded.config.postgres.budget;
    budget.share_server(|other| match other == service {
        true => layers.clone(),
        false => shared_layers(other, invocation),
    });
    Ok(loaded)
}

/// The layers that the processes of a deployment share: all but the flags.
fn shared_layers(service: &str, invocation: &Invocation) -> Layers {
    let mut layers = Layers::of_defaults(DEFAULTS, service);
    let environment = environment(invocation);
    layers.problems.extend(environment.problems);
    if let Some(file) = invocation.flags().file.or(environment.file) {
        layers.lay_file(&file, service);
    }
    layers.lay(environment.established);
    layers.lay(environment.exact);
    layers
}

fn read(layers: &Layers) -> Result<Loaded, ConfigErrors> {
    let mut reader = Reader::new(layers);
    let mut warnings = Vec::new();
    let config = Config::read(&mut reader, &mut warnings);
    if let Some(config) = &config {
        compare(config, &mut reader);
    }
    let Reader { settings, problems, .. } = reader;
    let problems: Vec<Problem> = layers.problems.iter().cloned().chain(problems).collect();
    match config {
        Some(config) if problems.is_empty() => Ok(Loaded { config, settings, warnings }),
        _ => Err(ConfigErrors { problems }),
    }
}

/// Time beyond drain and flush that the rest of a stop may take: 1 s for the cache to
/// send its last invalidations after the gRPC drain, 2 s to cut off what Postgres still
/// does for us, and 1 s to end the runtime.
const SHUTDOWN_MARGIN: Duration = Duration::from_secs(4);

/// Rules that hold between settings.
fn compare(config: &Config, reader: &mut Reader<'_>) {
    let Config { process, grpc, telemetry, postgres, cache, .. } = config;
    let stop = grpc.lame_duck + grpc.drain_timeout + telemetry.flush_timeout + SHUTDOWN_MARGIN;
    let mut rule = |holds: bool, key: &str, expected: String| {
        if !holds {
            reader.refuse(key, expected);
        }
    };
    rule(
        process.shutdown_timeout >= stop,
        "process.shutdown_timeout",
        format!(
            "expected at least {stop:?}: grpc.lame_duck {:?} + grpc.drain_timeout {:?} + \
             telemetry.flush_timeout {:?} + {SHUTDOWN_MARGIN:?} to drain the cache and the stores \
             and end the runtime",
            grpc.lame_duck, grpc.drain_timeout, telemetry.flush_timeout
        ),
    );
    rule(
        grpc.timeout_default <= grpc.timeout_max,
        "grpc.timeout_default",
        format!("expected at most grpc.timeout_max, {:?}", grpc.timeout_max),
    );
    rule(
        postgres.connections_min <= postgres.connections_max,
        "postgres.connections_min",
        format!("expected at most postgres.connections_max, {}", postgres.connections_max),
    );
    rule(
        cache.lease_wait <= cache.lease_ttl,
        "cache.lease_wait",
        format!("expected at most cache.lease_ttl, {:?}", cache.lease_ttl),
    );
    for (name, entity) in [("token", &cache.token), ("pool", &cache.pool)] {
        rule(
            entity.negative_ttl <= entity.ttl,
            &format!("cache.{name}.negative_ttl"),
            format!("expected at most cache.{name}.ttl, {:?}", entity.ttl),
        );
        rule(
            u64::try_from(entity.value_bytes_max).is_ok_and(|bytes| bytes <= cache.l1_bytes_max),
            &format!("cache.{name}.value_bytes_max"),
            format!("expected at most cache.l1_bytes_max, {}", cache.l1_bytes_max),
        );
    }
}

/// What the environment gives, sorted by rank.
#[derive(Default)]
struct Environment {
    file: Option<PathBuf>,
    established: Vec<Assignment>,
    exact: Vec<Assignment>,
    problems: Vec<Problem>,
}

/// Names that other tools gave these settings long ago.
const ESTABLISHED_NAMES: [(&str, &str); 6] = [
    ("DATABASE_URL", "postgres.url"),
    ("DATABASE_URL_FILE", "postgres.url_file"),
    ("REDIS_URL", "redis.url"),
    ("REDIS_URL_FILE", "redis.url_file"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp_endpoint"),
    ("RUST_LOG", "telemetry.log_filter"),
];

fn environment(invocation: &Invocation) -> Environment {
    let mut sorted = Environment::default();
    for (name, value) in invocation.environment() {
        let Some(name) = name.to_str() else { continue };
        if name == "FOREBAY_CONFIG" {
            sorted.file = Some(PathBuf::from(value)).filter(|path| !path.as_os_str().is_empty());
            continue;
        }
        let established = ESTABLISHED_NAMES.iter().find(|(known, _)| *known == name);
        let exact = name.strip_prefix("FOREBAY__");
        let key = match (established, exact) {
            (Some((_, key)), _) => (*key).to_owned(),
            (None, Some(rest)) => rest.to_lowercase().replace("__", "."),
            (None, None) => continue,
        };
        let source = Source::Environment(name.to_owned());
        let Some(value) = value.to_str() else {
            let problem = Problem::new(&key, Some(source), "expected text in UTF-8");
            sorted.problems.push(problem);
            continue;
        };
        let entry = Entry { raw: Raw::Text(value.to_owned()), source };
        match established {
            // Empty means unset there: compose files pass names on without a value.
            Some(_) if value.is_empty() => {}
            Some(_) => sorted.established.push(Assignment { key, entry }),
            None => sorted.exact.push(Assignment { key, entry }),
        }
    }
    sorted
}

fn flag_assignment((key, value): (String, String)) -> Assignment {
    let source = Source::Flag(format!("--{key}"));
    Assignment { key, entry: Entry { raw: Raw::Text(value), source } }
}

#[cfg(test)]
mod tests;
