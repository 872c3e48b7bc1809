//! Counts by entity and word, for operators.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// How often something happened. Entities and words are of the code, so it stays small.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<BTreeMap<(&'static str, &'static str), u64>>);

impl Tally {
    pub(crate) fn add(&self, entity: &'static str, word: &'static str, count: u64) {
        *self.0.lock().entry((entity, word)).or_default() += count;
    }

    /// The counts of one entity, in the order of the words.
    pub(crate) fn of(&self, entity: &'static str) -> Vec<(&'static str, u64)> {
        let counts = self.0.lock();
        let of_entity = counts.iter().filter(|((of, _), _)| *of == entity);
        of_entity.map(|((_, word), count)| (*word, *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_kept_apart_by_entity_and_word() {
        let tally = Tally::default();
        tally.add("token", "stored", 2);
        tally.add("token", "dropped", 1);
        tally.add("pool", "stored", 5);
        tally.add("token", "stored", 1);
        assert_eq!(tally.of("token"), [("dropped", 1), ("stored", 3)]);
        assert_eq!(tally.of("nosuch"), []);
    }
}
