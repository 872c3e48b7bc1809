//! Loading, with every layer injected: the process's own environment is never read.

use std::collections::BTreeSet;
use std::io::Write;

use super::*;
use crate::secret::SECRET_KEYS;

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn loaded(arguments: &[&str], environment: Pairs<'_>) -> Result<Loaded, ConfigErrors> {
    load("token-server", &Invocation::new(arguments, environment.iter().copied()))
}

fn file(content: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

/// Every key of the reference is read by some section and has a comment above it, and
/// every key a section reads is in the reference.
#[test]
fn the_reference_is_complete() {
    let layers = Layers::of_defaults(DEFAULTS, "token-server");
    assert_eq!(layers.problems, []);
    let mut reader = Reader::new(&layers);
    Config::read(&mut reader, &mut Vec::new()).expect("the defaults must be valid");
    let read: BTreeSet<&str> = reader.settings.iter().map(|s| s.key.as_str()).collect();
    assert_eq!(read, layers.known().collect());

    let lines: Vec<&str> = DEFAULTS.lines().collect();
    for pair in lines.windows(2) {
        let is_key = pair[1].contains(" = ") && !pair[1].starts_with('#');
        assert!(!is_key || pair[0].starts_with("# "), "undocumented: {}", pair[1]);
    }
}

#[test]
fn every_service_of_the_reference_has_valid_defaults() {
    for (service, port) in [("token-server", 50051), ("pool-server", 50052), ("migrate", 50051)] {
        let loaded = load(service, &Invocation::default()).unwrap();
        assert_eq!(loaded.config.grpc.listen.port(), port, "{service}");
    }
}

#[test]
fn a_later_layer_wins() {
    let settings = file("[redis]\nlanes = 3\n[service.token-server]\nredis.lanes = 4\n");
    let path = settings.path().to_str().unwrap();
    let check = |arguments: &[&str], environment: Pairs<'_>, lanes: u32, source: &str| {
        let loaded = loaded(arguments, environment).unwrap();
        assert_eq!(loaded.config.redis.lanes, lanes);
        let setting = loaded.settings.iter().find(|s| s.key == "redis.lanes").unwrap();
        assert_eq!(setting.source.to_string(), source);
        assert_eq!(setting.value, lanes.to_string());
    };
    let environment = ("FOREBAY__REDIS__LANES", "5");
    check(&[], &[], 2, "default");
    check(&["--config", path], &[], 4, &format!("file {path}"));
    check(&[], &[("FOREBAY_CONFIG", path)], 4, &format!("file {path}"));
    check(&["--config", path], &[environment], 5, "environment FOREBAY__REDIS__LANES");
    check(&["--redis.lanes=6"], &[environment], 6, "flag --redis.lanes");
}

#[test]
fn established_names_are_understood_and_exact_names_win() {
    let check = |environment: Pairs<'_>, key: &str, value: &str| {
        let loaded = loaded(&[], environment).unwrap();
        let setting = loaded.settings.iter().find(|s| s.key == key).unwrap();
        assert_eq!(setting.value, value, "{environment:?}");
    };
    check(&[("DATABASE_URL", "postgres://a/b")], "postgres.url", "\"postgres://a/b\"");
    check(&[("REDIS_URL", "redis://a")], "redis.url", "\"redis://a\"");
    check(&[("REDIS_URL", "")], "redis.url", "\"redis://127.0.0.1:6379\"");
    check(&[("RUST_LOG", "debug")], "telemetry.log_filter", "\"debug\"");
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317");
    check(&[endpoint], "telemetry.otlp_endpoint", "\"http://c:4317\"");
    let exact = ("FOREBAY__TELEMETRY__OTLP_ENDPOINT", "");
    check(&[exact, endpoint], "telemetry.otlp_endpoint", "\"\"");
}

/// One table for everything that is refused: what is given, and a part of the problem.
#[test]
fn bad_values_name_key_source_and_expectation() {
    let check = |argument: &str, parts: &[&str]| {
        let errors = loaded(&[argument], &[]).unwrap_err();
        assert_eq!(errors.problems.len(), 1, "{errors}");
        let problem = errors.problems[0].to_string();
        for part in parts {
            assert!(problem.contains(part), "{problem:?} lacks {part:?}");
        }
    };
    check("--grpc.listen=localhost:1", &["grpc.listen (flag --grpc.listen): expected ip:port"]);
    check("--grpc.timeout_max=0s", &["found \"0s\"", "1ms to 1h"]);
    check("--grpc.timeout_max=400d", &["1ms to 1h"]);
    check("--grpc.timeout_max=ten", &["expected a duration"]);
    check("--grpc.concurrent_requests_max=0", &["1 to 1000000"]);
    check("--grpc.concurrent_requests_max=-1", &["1 to 1000000"]);
    check("--postgres.connections_max=99999999999999999999", &["1 to 10000"]);
    check("--telemetry.sample_ratio=1.5", &["0.0 to 1.0"]);
    check("--telemetry.sample_ratio=NaN", &["0.0 to 1.0"]);
    check("--telemetry.log_format=xml", &["\"text\" or \"json\""]);
    check("--grpc.reflection=yes", &["true or false"]);
    check("--token_client.endpoint=127.0.0.1:1", &["http://host:port"]);
    check("--telemetry.otlp_endpoint=https://c", &["http://host:port"]);
    check("--redis.url=http://h", &["redis.url", "redis://[user:password@]host:port[/db]"]);
    check("--grpc.page_token_key=short", &["32 characters or more"]);
    check("--grpc.timeout_default=2m", &["at most grpc.timeout_max"]);
    check("--postgres.connections_min=21", &["at most postgres.connections_max, 20"]);
    check("--process.shutdown_timeout=5s", &["grpc.drain_timeout 15s"]);
    // The drains, the flush and 1 s to end the runtime would fit, but not the cache and the stores.
    check("--process.shutdown_timeout=20s", &["at least 22.5s", "to drain the cache"]);
    check("--cache.pool.negative_ttl=1d", &["at most cache.pool.ttl"]);
    check("--cache.lease_wait=3s", &["cache.lease_wait", "at most cache.lease_ttl, 2s"]);
    check("--cache.refresh_beta=-1", &["0.0 to 100.0"]);
    check("--cache.ttl_jitter=0.6", &["0.0 to 0.5"]);
    check("--cache.warm_up_keys=5000", &["0 to 4096"]);
    check("--grpc.lisen=x", &["there is no such setting; did you mean grpc.listen?"]);
    check("--grpc=x", &["expected a section"]);
    check("--lame_duck=1s", &["did you mean grpc.lame_duck?"]);
    check("--config", &["expected a file"]);
    check("--config=/no/such/file", &["expected a readable settings file"]);
    check("serve", &["expected --section.key=value"]);
}

#[test]
fn a_bad_file_is_explained() {
    let check = |content: &str, part: &str| {
        let settings = file(content);
        let flag = format!("--config={}", settings.path().display());
        let errors = loaded(&[&flag], &[]).unwrap_err().to_string();
        assert!(errors.contains(part), "{errors:?} lacks {part:?}");
        assert!(!errors.contains("hunter2"), "{errors:?}");
    };
    check("[grpc]\nlisen = 1", "did you mean grpc.listen?");
    check("grpc = 1", "expected a section");
    check("[redis]\nlanes = \"2\"", "expected a whole number");
    check("[grpc.listen]\nport = 1", "grpc.listen.port");
    check("[service.token-sever]", "did you mean token-server?");
    check("[service.pool-server]\ngrpc.lisen = 1", "did you mean grpc.listen?");
    check("service = 1", "[service.NAME]");
    // The line with the mistake holds a password, which must not be quoted.
    check("\n[postgres]\nurl = \"postgres://u:hunter2@h/d", "in line 3");
    check("[postgres]\nurl = { password = \"hunter2\" }", "postgres.url.password");
}

/// The whole point of collecting: one start shows every mistake of every layer.
#[test]
fn all_problems_are_reported_at_once() {
    let settings = file("[grpc]\nlisten = 5\ntypo = 1\n");
    let flag = format!("--config={}", settings.path().display());
    let environment = [("FOREBAY__REDIS__LANES", "none"), ("FOREBAY__NO__SUCH", "1")];
    let errors = loaded(&[&flag, "--cache.l2_timeout=fast", "stray"], &environment).unwrap_err();
    let mut keys: Vec<&str> = errors.problems.iter().map(|p| p.key.as_str()).collect();
    keys.sort_unstable();
    let expected =
        ["cache.l2_timeout", "grpc.listen", "grpc.typo", "no.such", "redis.lanes", "stray"];
    assert_eq!(keys, expected);
    assert!(errors.to_string().starts_with("6 problems in the settings\n"));
}

#[test]
fn secrets_come_from_files_in_every_layer() {
    let secret = file("postgres://u:hunter2@h/d\n");
    let path = secret.path().to_str().unwrap();
    let settings = file(&format!("[postgres]\nurl_file = \"{path}\"\n"));
    let config = format!("--config={}", settings.path().display());
    let flag = format!("--postgres.url_file={path}");
    let check = |arguments: &[&str], environment: Pairs<'_>| {
        let loaded = loaded(arguments, environment).unwrap();
        assert_eq!(loaded.config.postgres.url.expose(), "postgres://u:hunter2@h/d");
    };
    check(&[&config], &[]);
    check(&[], &[("DATABASE_URL_FILE", path)]);
    check(&[], &[("FOREBAY__POSTGRES__URL_FILE", path)]);
    check(&[&flag], &[("DATABASE_URL", "postgres://other/d")]);
}

#[test]
fn bad_secret_files_are_refused() {
    let secret = file("redis://h");
    let path = secret.path().to_str().unwrap();
    let long = file(&"x".repeat(70_000));
    let check = |environment: Pairs<'_>, part: &str| {
        let errors = loaded(&[], environment).unwrap_err().to_string();
        assert!(errors.contains(part), "{errors:?} lacks {part:?}");
    };
    check(&[("REDIS_URL_FILE", "/no/such/file")], "expected a file that holds the secret");
    check(&[("REDIS_URL_FILE", long.path().to_str().unwrap())], "longer than 65536 bytes");
    check(&[("REDIS_URL_FILE", path), ("REDIS_URL", "redis://h")], "not both");
    check(&[("FOREBAY__REDIS__LANES_FILE", path)], "there is no such setting");
}

/// Fails when a section derives `Debug` over a bare string that holds a secret, or when
/// a setting is shown without redaction.
#[test]
fn nothing_shown_holds_a_secret() {
    let environment = [
        ("DATABASE_URL", "postgres://user:hunter2@h/d?password=hunter2"),
        ("REDIS_URL", "redis://:hunter2@h"),
        ("FOREBAY__POSTGRES__REPLICA_URLS", "postgres://u:hunter2@a/d postgres://u:hunter2@b/d"),
        ("FOREBAY__GRPC__PAGE_TOKEN_KEY", "hunter2hunter2hunter2hunter2hunter2"),
    ];
    let invocation = Invocation::new(["--redis.url=redis://:hunter2@h"], environment);
    let loaded = load("token-server", &invocation).unwrap();
    let shown = format!("{loaded:?} {:#?} {invocation:?}", loaded.config);
    let printed: String = loaded.settings.iter().map(|s| format!("{s}\n")).collect();
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(!printed.contains("hunter2"), "{printed}");
    for key in SECRET_KEYS {
        let setting = loaded.settings.iter().find(|s| s.key == key).unwrap();
        assert!(setting.value.contains("[redacted]"), "{setting}");
    }
}

#[test]
fn what_is_printed_can_be_loaded_again() {
    let printed: String = loaded(&["--redis.lanes=7"], &[])
        .unwrap()
        .settings
        .iter()
        .map(|s| format!("{s}\n"))
        .collect();
    let settings = file(&printed);
    let again = loaded(&[&format!("--config={}", settings.path().display())], &[]).unwrap();
    assert_eq!(again.config.redis.lanes, 7);
}

/// A compiled-in key would be known to everybody, so an absent one is drawn per process.
#[test]
fn without_a_page_token_key_every_process_draws_its_own() {
    let [first, second] = [(); 2].map(|()| loaded(&[], &[]).unwrap());
    assert!(first.config.grpc.page_token_key.expose().len() >= 32);
    assert_ne!(first.config.grpc.page_token_key, second.config.grpc.page_token_key);
    assert!(first.warnings.iter().any(|w| w.contains("grpc.page_token_key")));
    let key = "--grpc.page_token_key=0123456789abcdef0123456789abcdef";
    assert!(loaded(&[key], &[]).unwrap().warnings.is_empty());
}

#[test]
fn commands_are_found_among_settings() {
    use crate::Command::{Help, PrintConfig, PrintDefaults, Run, Version};
    let check = |arguments: &[&str], command| {
        let none: [(&str, &str); 0] = [];
        assert_eq!(Invocation::new(arguments, none).command(), command, "{arguments:?}");
    };
    check(&[], Run);
    check(&["--redis.lanes=7"], Run);
    check(&["--redis.lanes=7", "--print-config"], PrintConfig);
    check(&["--print-defaults"], PrintDefaults);
    check(&["-h", "--version"], Help);
    check(&["-V"], Version);
}

/// Fails when a process plans with its own number for the other services: they share one server.
#[test]
fn the_budget_knows_the_connections_of_every_service() {
    let settings = file(
        "[postgres]\nconnections_max = 7\n[service.pool-server]\npostgres.connections_max = 9\n\
         [postgres.budget]\npool_server = 3\n",
    );
    let config = format!("--config={}", settings.path().display());
    let check = |arguments: &[&str], environment: Pairs<'_>, expected: [(u32, u32); 2]| {
        let loaded = loaded(arguments, environment).unwrap();
        let services = loaded.config.postgres.budget.services;
        let read: Vec<_> = services.iter().map(|s| (s.processes, s.connections_max)).collect();
        assert_eq!(read, expected, "{services:?}");
    };
    check(&[], &[], [(1, 20), (1, 20)]);
    check(&[&config], &[], [(1, 7), (3, 9)]);
    check(&[&config], &[("FOREBAY__POSTGRES__CONNECTIONS_MAX", "5")], [(1, 5), (3, 5)]);
    // A flag is for one process: this one, the token service.
    check(&[&config, "--postgres.connections_max=11"], &[], [(1, 11), (3, 9)]);
    check(&["--postgres.budget.token_server=0"], &[], [(0, 20), (1, 20)]);
}
