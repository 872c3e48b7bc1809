//! The tables and the JSON of known answers, and what is said when nothing runs.

use forebay_proto::ops::v1::{
    CircuitBreakerStats, ConnectionBudget, ConnectionHolder, GetConnectionPoolsResponse,
    PostgresPoolStats, PriorityQueueStats, ReasonCount, RedisDedicatedStats, RedisLaneStats,
    RedisPoolStats, ReplicaStats,
};
use forebay_provision::proc_table::Identity;
use prost_types::Duration;
use serde_json::Value as Json;

use super::*;
use crate::fleet::Answer;
use crate::state::State;

fn millis(millis: i32) -> Option<Duration> {
    Some(Duration { seconds: 0, nanos: millis * 1_000_000 })
}

/// A service in trouble: the server is short of slots, and callers wait.
fn troubled() -> GetConnectionPoolsResponse {
    let holder = ConnectionHolder {
        location: "crates/token/src/store.rs:120".to_owned(),
        age: Some(Duration { seconds: 31, nanos: 0 }),
        statement: "SELECT tokens".to_owned(),
        priority: "batch".to_owned(),
    };
    let postgres = PostgresPoolStats {
        name: "postgres".to_owned(),
        connections: 14,
        in_use_connections: 14,
        max_connections: 20,
        waiting: 3,
        max_waiting: 512,
        shed: 7,
        limbo_connections: 1,
        live_max_connections: 14,
        oldest_wait: millis(250),
        priorities: vec![
            PriorityQueueStats {
                priority: "interactive".to_owned(),
                waiting: 3,
                reserved_connections: 0,
            },
            PriorityQueueStats {
                priority: "admin".to_owned(),
                waiting: 0,
                reserved_connections: 1,
            },
        ],
        top_holders: vec![holder],
        breaker: Some(CircuitBreakerStats {
            state: "half_open".to_owned(),
            last_cause: "server_slots".to_owned(),
        }),
        budget: Some(ConnectionBudget { share: 20, limit: 77 }),
        shed_by_reason: vec![ReasonCount { reason: "queue_full".to_owned(), count: 7 }],
        created: 21,
        closed_by_reason: vec![
            ReasonCount { reason: "lifetime".to_owned(), count: 6 },
            ReasonCount { reason: "broken".to_owned(), count: 0 },
        ],
        replicas: vec![ReplicaStats {
            name: "replica-1".to_owned(),
            state: "following".to_owned(),
            lag_bytes: Some(4096),
            lag: millis(1),
            reads: 12,
            ..ReplicaStats::default()
        }],
        mode: "direct".to_owned(),
        ..PostgresPoolStats::default()
    };
    GetConnectionPoolsResponse { postgres: vec![postgres], redis: vec![reconnecting()] }
}

/// One lane of two lost its connection.
fn reconnecting() -> RedisPoolStats {
    RedisPoolStats {
        name: "redis".to_owned(),
        connected: true,
        status: "ready".to_owned(),
        command_queue_length: 5,
        offline_queue_length: 0,
        command_queue_max: 2048,
        offline_queue_max: 1024,
        reconnects: 2,
        lanes: ["ready", "reconnecting"]
            .map(|status| RedisLaneStats { status: status.to_owned(), ..Default::default() })
            .into(),
        dedicated: Some(RedisDedicatedStats {
            connections: 1,
            idle_connections: 1,
            max_connections: 8,
            ..Default::default()
        }),
        subscriptions: 1,
        subscription_bytes: 2048,
        subscription_bytes_max: 4_194_304,
        ..RedisPoolStats::default()
    }
}

fn answers() -> Vec<Answer<GetConnectionPoolsResponse>> {
    let silent = Err("no answer within 2 s".to_owned());
    vec![
        Answer { service: "token-server".to_owned(), reply: Ok(troubled()) },
        Answer { service: "pool-server".to_owned(), reply: silent },
    ]
}

#[test]
fn every_figure_has_its_place_in_the_tables() {
    let expected = "\
instance default

  POSTGRES               MODE    SIZE                   IDLE  IN USE  LIMBO  WAITING   OLDEST WAIT  BREAKER                   BUDGET
  token-server/postgres  direct  14 of 14 (cut from 20)  0     14      1      3 of 512  250.0 ms     half_open (server_slots)  20 of 77

  SINCE START            CREATED  CLOSED          CONNECT FAILURES  TIMEOUTS  SHED              CANCELLED  RETRIES  LEAKED  UNKNOWN OUTCOMES
  token-server/postgres  21       6 (lifetime 6)  0                 0         7 (queue_full 7)  0          0        0       0

  waiting  token-server/postgres  3 interactive
  held by  token-server/postgres  crates/token/src/store.rs:120  31.00 s   batch SELECT tokens
  replica  token-server/postgres  replica-1 following            1.000 ms  4096 bytes behind, 12 reads, 0 moved, 0 ejections

  REDIS               CONNECTED  STATUS                              COMMAND QUEUE  OFFLINE QUEUE  WAITING  OLDEST IN FLIGHT  BREAKER  DEDICATED                SUBSCRIPTIONS  BYTES WAITING
  token-server/redis  yes        ready (lanes: ready, reconnecting)  5 of 2048      0 of 1024      0        -                 -        1 of 8, 1 idle, 0 in use  1              2048 of 4194304 each

  SINCE START         RECONNECTS  CONNECT FAILURES  TIMEOUTS  SHED  RETRIES  UNKNOWN OUTCOMES
  token-server/redis  2           0                 0         0     0        0

  pool-server: no answer within 2 s
";
    // How wide a column is, is for `align` and its own test.
    let squeezed = |text: &str| -> Vec<Vec<String>> {
        let cells = |line: &str| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .map(str::to_owned)
                .collect()
        };
        text.lines().map(cells).collect()
    };
    assert_eq!(squeezed(&table::text("default", &answers())), squeezed(expected));
}

#[test]
fn a_store_without_connection_pools_has_no_table() {
    let nothing: Answer<GetConnectionPoolsResponse> =
        Answer { service: "x".to_owned(), reply: Ok(Default::default()) };
    assert_eq!(table::text("default", &[nothing]), "instance default\n");
}

/// Fails when a field of the contract is left out, or renamed from what the backend's own
/// statistics called it.
#[test]
fn json_has_one_object_for_each_service_with_every_field() {
    let text = fleet::json_lines(&answers(), CONTRACT).unwrap();
    let lines: Vec<Json> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [token, pool] = lines.as_slice() else { panic!("{text}") };
    assert_eq!(token["service"], "token-server");
    let redis = &token["redis"][0];
    assert_eq!(redis["connected"], true);
    assert_eq!(redis["status"], "ready");
    assert_eq!(redis["command_queue_length"], 5);
    assert_eq!(redis["offline_queue_length"], 0);
    assert_eq!(redis["subscription_bytes"], 2048);
    let postgres = &token["postgres"][0];
    assert_eq!(postgres["shed"], 7);
    assert_eq!(postgres["unknown_outcomes"], 0);
    assert_eq!(postgres["top_holders"][0]["location"], "crates/token/src/store.rs:120");
    assert_eq!(postgres["oldest_wait"], "0.250s");
    assert_eq!(pool["service"], "pool-server");
    assert_eq!(pool["error"], "no answer within 2 s");
}

#[test]
fn when_nothing_runs_it_names_the_command_that_starts_it() {
    let dir = tempfile::tempdir().unwrap();
    let workspace = Workspace { root: dir.path().to_path_buf() };
    let instance = workspace.instance(Some("side")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let said = || format!("{:#}", runtime.block_on(round(&instance, false)).unwrap_err());
    assert_eq!(said(), "instance side does not run: `cargo xtask dev` starts it");

    // Its supervisor lives, and the service behind the address is gone.
    instance.create().unwrap();
    let mut state = State::new(&instance, Identity::own());
    state.save(&instance.state_file()).unwrap();
    assert!(said().contains("listens yet: `cargo xtask status`"), "{}", said());
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    state.services[0].grpc = Some(unused.to_string());
    state.save(&instance.state_file()).unwrap();
    assert!(said().contains("`cargo xtask logs` tell more; token-server said: "), "{}", said());
}

#[test]
fn arguments_are_checked() {
    let request = |args: &[&str]| parse(args.iter().map(OsString::from).collect());
    let watched = request(&["--json", "--interval", "5"]).unwrap().unwrap();
    assert!(watched.as_json && watched.watch);
    assert_eq!(watched.interval.as_secs(), 5);
    let refused = format!("{:#}", request(&["--interval", "0"]).unwrap_err());
    assert_eq!(refused, "--interval takes 1 to 3600 seconds");
    assert!(request(&["--nosuch"]).is_err());
    assert!(request(&["--help"]).unwrap().is_none());
}
