//! Lists of traces, and finding one.

use super::{MILLI, export, exports, span};
use crate::trace::clock::{Millis, Utc};
use crate::trace::list::{self, Filter};
use crate::trace::{document, find, model};

#[test]
fn the_list_is_filtered_and_newest_first() {
    let traces = model::assemble(exports());
    let all = Filter { limit: 20, service: None, errors: false, millis_min: 0, probes: false };
    let cases = [
        (all.clone(), vec!["bb", "aa"]),
        (Filter { limit: 1, ..all.clone() }, vec!["bb"]),
        (Filter { service: Some("token-server".to_owned()), ..all.clone() }, vec!["aa"]),
        (Filter { service: Some("nobody".to_owned()), ..all.clone() }, vec![]),
        (Filter { errors: true, ..all.clone() }, vec!["aa"]),
        (Filter { millis_min: 10, ..all.clone() }, vec!["aa"]),
        (Filter { millis_min: 11, ..all }, vec![]),
    ];
    for (filter, expected) in cases {
        let listed: Vec<_> = filter.apply(&traces).iter().map(|trace| &trace.id[..2]).collect();
        assert_eq!(listed, expected, "{filter:?}");
    }
}

#[test]
fn probes_are_listed_when_asked_for() {
    let check = span(0xcc, 1, 0, "grpc.health.v1.Health/Check", 0, 1);
    let traces = model::assemble(vec![export("x", vec![check])]);
    for (probes, expected) in [(false, 0), (true, 1)] {
        let filter = Filter { limit: 9, service: None, errors: false, millis_min: 0, probes };
        assert_eq!(filter.apply(&traces).len(), expected, "{filter:?}");
    }
}

#[test]
fn the_table_tells_when_what_how_long_and_who() {
    let traces = model::assemble(exports());
    let table = list::table(&[&traces[1]]);
    let row = table.lines().nth(1).unwrap();
    for fact in
        ["2023-11-14T22:13:20.000Z", "PoolService/CreatePool", "10.0 ms", "  5  ", "token-server"]
    {
        assert!(row.contains(fact), "{fact}\n{table}");
    }
}

#[test]
fn a_trace_is_found_by_the_start_of_its_id() {
    let traces = model::assemble(exports());
    assert_eq!(find(&traces, "AAAA").unwrap().spans.len(), 5);
    assert_eq!(find(&traces, &"bb".repeat(16)).unwrap().spans.len(), 1);
    for (id, problem) in [("cc", "no trace cc"), ("", "no trace id"), ("xyz", "no trace id")] {
        let said = find(&traces, id).unwrap_err();
        assert!(said.contains(problem), "{id}: {said}");
    }
    let json = document(&traces[1]);
    assert_eq!(json["span_count"], 5);
    assert_eq!(json["spans"][0]["attributes"]["rpc.status_code"], "OK");
}

#[test]
fn instants_and_durations_are_written_as_people_read_them() {
    let instants = [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
        (1_709_251_200_000, "2024-03-01T00:00:00.000Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
    ];
    for (millis, expected) in instants {
        assert_eq!(Utc(millis * MILLI).to_string(), expected);
    }
    let durations = [
        (0, "0.000 ms"),
        (1_234_567, "1.234 ms"),
        (12_345_678, "12.3 ms"),
        (999_999_999, "999.9 ms"),
        (1_000_000_000, "1.00 s"),
        (61_239_000_000, "61.23 s"),
    ];
    for (nanos, expected) in durations {
        assert_eq!(Millis(nanos).to_string(), expected);
    }
}
