//! What is left of a store after kills, torn writes and more traces than it may hold.

use std::fs;
use std::path::{Path, PathBuf};

use super::{export, exports, span, stored};
use crate::trace::model;
use crate::trace::store::{self, Limits, Store};

/// The files of a store, oldest first.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn a_restart_goes_on_where_the_last_writer_stopped() {
    let dir = tempfile::tempdir().unwrap();
    for export in exports() {
        stored(dir.path(), &[export]);
    }
    assert_eq!(store::read(dir.path()).unwrap(), exports());
    assert_eq!(segments(dir.path()).len(), 1);
}

#[test]
fn a_torn_record_costs_itself_only() {
    let dir = tempfile::tempdir().unwrap();
    stored(dir.path(), &exports());
    let segment = segments(dir.path()).remove(0);
    let whole = fs::read(&segment).unwrap();
    // Cut anywhere in the last record: its header, its payload, its last byte.
    let two = {
        let other = tempfile::tempdir().unwrap();
        stored(other.path(), &exports()[..2]);
        fs::read(segments(other.path()).remove(0)).unwrap().len()
    };
    for cut in two..whole.len() {
        fs::write(&segment, &whole[..cut]).unwrap();
        assert_eq!(store::read(dir.path()).unwrap(), exports()[..2], "cut at {cut}");
        // The next writer goes on right behind the last whole record.
        stored(dir.path(), &exports()[..1]);
        let read = store::read(dir.path()).unwrap();
        assert_eq!(read.len(), 3, "cut at {cut}");
        assert_eq!(read[2], exports()[0], "cut at {cut}");
    }
}

#[test]
fn a_flipped_byte_hides_no_other_segment() {
    let dir = tempfile::tempdir().unwrap();
    let one_each = Limits { spans_max: 8, bytes_max: 1 << 20 };
    let mut store = Store::open(dir.path(), one_each).unwrap();
    for id in 1..=3 {
        store.append(&export("x", vec![span(id, 1, 0, "one", 0, 1)])).unwrap();
    }
    let first = segments(dir.path()).remove(0);
    let mut bytes = fs::read(&first).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&first, bytes).unwrap();
    let traces = model::assemble(store::read(dir.path()).unwrap());
    let ids: Vec<_> = traces.iter().map(|trace| trace.id[..2].to_owned()).collect();
    assert_eq!(ids, ["02", "03"]);
}

#[test]
fn the_store_keeps_the_newest_within_its_bounds() {
    let spans_of = |dir: &Path| -> Vec<u8> {
        let exports = store::read(dir).unwrap();
        let scopes = exports.iter().flat_map(|export| &export.resource_spans[0].scope_spans);
        scopes.flat_map(|scope| scope.spans.iter().map(|span| span.trace_id[0])).collect()
    };
    let size = |dir: &Path| -> u64 {
        segments(dir).iter().map(|path| fs::metadata(path).unwrap().len()).sum()
    };
    let by_spans = Limits { spans_max: 40, bytes_max: 1 << 20 };
    let by_bytes = Limits { spans_max: 1 << 20, bytes_max: 4_000 };
    for limits in [by_spans, by_bytes] {
        let dir = tempfile::tempdir().unwrap();
        for id in 0..200 {
            // Every restart measures what is there, so the bounds hold across them.
            let mut store = Store::open(dir.path(), limits).unwrap();
            store.append(&export("x", vec![span(id, 1, 0, "one", 0, 1)])).unwrap();
            assert!(spans_of(dir.path()).len() <= 40 || limits.spans_max > 40);
            assert!(size(dir.path()) <= limits.bytes_max);
        }
        let kept = spans_of(dir.path());
        let newest: Vec<u8> = (0..200).skip(200 - kept.len()).collect();
        assert_eq!(kept, newest);
        assert!(kept.len() >= 30, "{} kept within {limits:?}", kept.len());
    }
}
