//! What a mask chooses, and what it may not name.

use prost_types::FieldMask;

use super::UpdateMask;

const ALLOWED: &[&str] = &["symbol", "name", "decimals"];

fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

/// The allowed fields that an update with `mask` changes when only `name` is set.
fn check(mask: Option<FieldMask>, expected: &[&str]) {
    let parsed = UpdateMask::parse(mask.as_ref(), ALLOWED).expect("a valid mask");
    let chosen: Vec<_> =
        ALLOWED.iter().copied().filter(|path| parsed.includes(path, *path == "name")).collect();
    assert_eq!(chosen, expected, "{mask:?}");
}

#[test]
fn chooses_fields() {
    check(None, &["name"]);
    check(mask(&[]), &["name"]);
    check(mask(&["*"]), ALLOWED);
    check(mask(&["symbol"]), &["symbol"]);
    check(mask(&["decimals", "symbol", "symbol"]), &["symbol", "decimals"]);
}

#[test]
fn names_every_bad_path() {
    for (paths, bad) in [
        (&["mint"][..], 1),
        (&["symbol", "mint", "nosuch", ""], 3),
        (&["*", "symbol"], 1),
        (&["Symbol"], 1),
    ] {
        let violations = UpdateMask::parse(mask(paths).as_ref(), ALLOWED).expect_err("bad");
        assert_eq!(violations.len(), bad, "{paths:?}");
        assert!(violations.iter().all(|violation| violation.field == "update_mask"));
    }
}
