//! The tables of known answers, and the arguments.

use forebay_proto::ops::v1::{
    CacheEntityStats, CacheLevelEntry, CacheStats, CircuitBreakerStats, GetCacheStatsResponse,
    InspectCacheEntryResponse, ReasonCount,
};
use prost_types::Duration;

use super::*;

fn counts(counts: &[(&str, u64)]) -> Vec<ReasonCount> {
    let count =
        |(reason, count): &(&str, u64)| ReasonCount { reason: (*reason).to_owned(), count: *count };
    counts.iter().map(count).collect()
}

fn answers() -> Vec<Answer<GetCacheStatsResponse>> {
    let breaker = CircuitBreakerStats { state: "open".to_owned(), last_cause: String::new() };
    let cache = CacheStats {
        l1_bytes: 3 << 20,
        l1_bytes_max: 64 << 20,
        l1_entries: 9000,
        l1_list_bytes: 1 << 20,
        l1_list_bytes_max: 32 << 20,
        l2_state: "unconnected".to_owned(),
        l2_breaker: Some(breaker),
        l2_epoch: "00ff00ff00ff00ff".to_owned(),
        pending_changes: 7,
        pending_changes_max: 65536,
        announced_changes: 5,
        announced_changes_max: 4096,
        l2_errors: 12,
        caught_up_ago: Some(Duration { seconds: 0, nanos: 120_000_000 }),
        tail_failures: 4,
        forgotten: counts(&[("too_many", 1), ("truncated", 2)]),
        l2_forgotten: counts(&[("pending_full", 3)]),
    };
    let token = CacheEntityStats {
        entity: "token".to_owned(),
        outcomes: counts(&[
            ("hit_l1", 90),
            ("hit_l2", 5),
            ("loaded", 3),
            ("negative_l1", 1),
            ("negative_l2", 0),
            ("absent", 1),
            ("stale", 0),
        ]),
        hit_ratio: Some(0.96),
        l1_bytes: 2048,
        l1_entries: 4,
        reads_in_flight: 2,
        fills: counts(&[("dropped", 0), ("stored", 3)]),
        invalidations: counts(&[("local", 1), ("remote", 2)]),
        verified: counts(&[("confirmed", 2), ("stale", 1)]),
        loads_in_flight: 1,
        loads_max: 8,
        keys_waiting: 3,
        keys_waiting_max: 8192,
    };
    let silent = Err("no answer within 2 s".to_owned());
    vec![
        Answer {
            service: "token-server".to_owned(),
            reply: Ok(GetCacheStatsResponse { cache: Some(cache), entities: vec![token] }),
        },
        Answer { service: "pool-server".to_owned(), reply: silent },
    ]
}

/// How wide a column is, is for `align` and its own test.
fn squeezed(text: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| {
        let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
        cells.map(str::to_owned).collect()
    };
    text.lines().map(cells).collect()
}

#[test]
fn every_figure_has_its_place_in_the_tables() {
    let expected = "\
instance default

  CACHE  MEMORY  ENTRIES  LISTS  CAUGHT UP  REDIS  BREAKER  EPOCH  PENDING  ANNOUNCED  GIVEN UP
  token-server  3 MiB of 64 MiB  9000  1 MiB of 32 MiB  120.0 ms ago (4 errors)  unconnected (12 errors)  open  00ff00ff00ff00ff  7 of 65536  5 of 4096  too_many 1, truncated 2; in redis: pending_full 3

  READS  HIT RATIO  MEMORY HITS  REDIS HITS  LOADED  ABSENT  STALE  ENTRIES
  token-server/token  96.0 %  91  5  3  1  0  4 (2 KiB)

  NOW  READING  LOADS  WAITING  FILLS  FORGOTTEN  VERIFIED
  token-server/token  2  1 of 8  3 of 8192  stored 3  local 1, remote 2  confirmed 2, stale 1

  pool-server: no answer within 2 s
";
    assert_eq!(squeezed(&table::text("default", &answers())), squeezed(expected));
}

#[test]
fn json_has_one_object_for_each_service_with_every_field() {
    let text = fleet::json_lines(&answers(), CONTRACT).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [token, pool] = lines.as_slice() else { panic!("{text}") };
    assert_eq!(token["service"], "token-server");
    assert_eq!(token["cache"]["l2_state"], "unconnected");
    assert_eq!(token["entities"][0]["hit_ratio"], 0.96);
    assert_eq!(token["entities"][0]["outcomes"][4]["count"], 0);
    assert_eq!(pool["error"], "no answer within 2 s");
}

#[test]
fn an_entry_is_shown_in_both_levels_where_it_is_known() {
    let level = CacheLevelEntry {
        version: 42,
        size_bytes: 300,
        age: Some(Duration { seconds: 2, nanos: 0 }),
        time_to_live: None,
        negative: false,
    };
    let inspected = InspectCacheEntryResponse { l1: Some(level), l2: None };
    let unknown = Err("entry.entity must be one of pool".to_owned());
    let answers = [
        Answer { service: "token-server".to_owned(), reply: Ok(inspected) },
        Answer { service: "pool-server".to_owned(), reply: unknown },
    ];
    let expected = "\
  SERVICE  LEVEL  VERSION  BYTES  AGE  LEFT
  token-server  memory  42  300  2.00 s  -
  token-server  redis  -  -  -  -  not there
";
    assert_eq!(squeezed(&entry::levels(&answers)), squeezed(expected));
    let strangers = ["token", "pool"].map(|name| Answer::<()> {
        service: name.to_owned(),
        reply: Err(format!("entity must be one of {name}")),
    });
    let refused = format!("{:#}", known(strangers.into()).unwrap_err());
    assert!(refused.contains("pool: entity must be one of pool"), "{refused}");
    assert_eq!(entry::done(&answers, |_| "done".to_owned()), "token-server: done\n");
}

#[test]
fn arguments_are_checked() {
    let request = |args: &[&str]| parse(args.iter().map(OsString::from).collect());
    let action = |args: &[&str]| request(args).unwrap().unwrap().action;
    assert_eq!(action(&[]), Action::Show);
    let (entity, key) = ("token".to_owned(), "x".to_owned());
    assert_eq!(action(&["inspect", "token", "x"]), Action::Inspect { entity, key });
    assert_eq!(action(&["clear"]), Action::Clear { entity: String::new() });
    assert!(request(&["--interval", "5"]).unwrap().unwrap().watch);
    for bad in [&["inspect", "token"][..], &["evict"], &["nosuch"], &["--watch", "clear"]] {
        assert!(request(bad).is_err(), "{bad:?}");
    }
    assert!(request(&["--help"]).unwrap().is_none());
}
