//! When a version is settled.

use super::*;

fn look(newest: i64, open: &[&str]) -> Look {
    let open = open.iter().map(|name| (*name).to_owned()).collect();
    Look { newest, open, has_prepared: false }
}

/// Asks for a version, looks, and tells what is known then.
fn round(settled: &Settled, version: i64, look: Look) -> Standing {
    settled.standing(version);
    let asked = settled.take_asked().unwrap_or(Asked(Vec::new()));
    settled.have_applied(1, look, &asked);
    settled.standing(version)
}

#[test]
fn nobody_looks_unless_somebody_asks() {
    let settled = Settled::default();
    assert!(settled.take_asked().is_none());
    assert_eq!(settled.standing(5), Standing::Open);
    let asked = settled.take_asked().expect("asked");
    assert!(settled.take_asked().is_none());
    settled.have_applied(1, look(5, &[]), &asked);
    assert_eq!(settled.standing(5), Standing::Settled { era: 1 });
    assert_eq!(settled.standing(3), Standing::Settled { era: 1 }, "and all before it");
    assert!(settled.take_asked().is_none(), "there is nothing to find out");
}

/// Version 20 was applied, and the transaction that has version 10 is open: it commits later, and a
/// caller may see both. Fails when a version counts as settled because it was applied.
#[test]
fn a_version_waits_for_all_who_could_have_a_lower_one() {
    let settled = Settled::default();
    assert_eq!(round(&settled, 20, look(20, &["3/7", "4/1"])), Standing::Open);
    assert_eq!(round(&settled, 20, look(25, &["3/7", "5/5"])), Standing::Open);
    // Whoever came later has higher ones.
    assert_eq!(round(&settled, 20, look(30, &["5/5"])), Standing::Settled { era: 1 });
    assert_eq!(settled.standing(25), Standing::Open);
    assert_eq!(round(&settled, 25, look(30, &["6/1"])), Standing::Settled { era: 1 });
    assert_eq!(settled.standing(30), Standing::Settled { era: 1 }, "also of the third look");
}

/// Fails when a transaction that was prepared counts as ended: it has another name now.
#[test]
fn a_prepared_transaction_may_be_any_that_was_open() {
    let settled = Settled::default();
    assert_eq!(round(&settled, 20, look(20, &["3/7"])), Standing::Open);
    let prepared = Look { has_prepared: true, ..look(20, &[]) };
    assert_eq!(round(&settled, 20, prepared), Standing::Open);
    assert_eq!(round(&settled, 20, look(20, &[])), Standing::Settled { era: 1 });
}

#[test]
fn what_was_not_given_out_is_doubted_until_it_is() {
    let settled = Settled::default();
    assert_eq!(round(&settled, 50, look(20, &[])), Standing::Doubtful);
    assert_eq!(settled.standing(51), Standing::Open, "nobody knows yet");
    assert_eq!(round(&settled, 51, look(60, &[])), Standing::Settled { era: 1 });
    assert_eq!(settled.standing(50), Standing::Settled { era: 1 });
}

#[test]
fn another_era_begins_with_nothing() {
    let settled = Settled::default();
    assert_eq!(round(&settled, 20, look(20, &[])), Standing::Settled { era: 1 });
    settled.restart();
    assert_eq!(settled.standing(20), Standing::Open);
    settled.have_applied(2, look(10, &[]), &Asked(vec![20]));
    assert_eq!(settled.standing(20), Standing::Doubtful, "that history is lost");
    settled.have_applied(3, look(9, &[]), &Asked(Vec::new()));
    assert_eq!(settled.standing(10), Standing::Open);
}

#[test]
fn what_is_remembered_is_bounded() {
    let settled = Settled::default();
    for version in 1..1_000 {
        settled.standing(version);
        let open = format!("1/{version}");
        settled.have_applied(1, look(0, &[&open, "2/1"]), &Asked(vec![version]));
    }
    let state = settled.0.lock();
    assert_eq!((state.asked.len(), state.unknown.len()), (ASKED_MAX, ASKED_MAX));
    assert!(state.earlier.len() <= EARLIER_MAX, "{}", state.earlier.len());
    assert_eq!(state.unknown.last(), Some(&999), "the last ones");
}
