//! The cache.

use forebay_cache::{CacheStats, EntityStats, Outcome};
use forebay_proto::ops::v1 as pb;

use super::{count, duration, reason};

pub(crate) fn cache(stats: CacheStats) -> pb::GetCacheStatsResponse {
    let breaker =
        pb::CircuitBreakerStats { state: stats.l2_breaker.to_owned(), last_cause: String::new() };
    pb::GetCacheStatsResponse {
        cache: Some(pb::CacheStats {
            l1_bytes: stats.l1_bytes,
            l1_bytes_max: stats.l1_bytes_max,
            l1_entries: stats.l1_entries,
            l1_list_bytes: stats.l1_list_bytes,
            l1_list_bytes_max: stats.l1_list_bytes_max,
            l2_state: stats.l2_state.as_str().to_owned(),
            l2_breaker: Some(breaker),
            l2_epoch: stats.l2_epoch.unwrap_or_default(),
            l2_errors: stats.l2_errors,
            caught_up_ago: stats.caught_up_ago.and_then(duration),
            pending_changes: count(stats.pending),
            pending_changes_max: count(stats.pending_max),
            announced_changes: count(stats.announced),
            announced_changes_max: count(stats.announced_max),
            tail_failures: stats.tail_failures,
            forgotten: reasons(&stats.forgotten),
            l2_forgotten: reasons(&stats.l2_forgotten),
        }),
        entities: stats.entities.iter().map(entity).collect(),
    }
}

fn entity(stats: &EntityStats) -> pb::CacheEntityStats {
    pb::CacheEntityStats {
        entity: stats.entity.to_owned(),
        outcomes: stats
            .outcomes
            .iter()
            .map(|(outcome, count)| reason(outcome.as_str(), *count))
            .collect(),
        hit_ratio: hit_ratio(&stats.outcomes),
        l1_bytes: stats.l1_bytes,
        l1_entries: stats.l1_entries,
        reads_in_flight: count(stats.reads_in_flight),
        loads_in_flight: count(stats.loads_in_flight),
        loads_max: count(stats.loads_max),
        keys_waiting: count(stats.keys_waiting),
        keys_waiting_max: count(stats.keys_waiting_max),
        fills: reasons(&stats.fills),
        invalidations: reasons(&stats.invalidations),
        verified: reasons(&stats.verified),
    }
}

fn reasons(counts: &[(&'static str, u64)]) -> Vec<pb::ReasonCount> {
    counts.iter().map(|(word, count)| reason(word, *count)).collect()
}

fn hit_ratio(outcomes: &[(Outcome, u64)]) -> Option<f64> {
    let reads: u64 = outcomes.iter().map(|(_, count)| count).sum();
    let answered = outcomes.iter().filter(|(outcome, _)| match outcome {
        Outcome::HitL1 | Outcome::HitL2 | Outcome::NegativeL1 | Outcome::NegativeL2 => true,
        Outcome::Loaded | Outcome::Absent | Outcome::Stale => false,
    });
    let answered: u64 = answered.map(|(_, count)| count).sum();
    // In thousandths, which any counter of a process leaves exact.
    let thousandths = u128::from(answered) * 1000 / u128::from(reads.max(1));
    let ratio = f64::from(u32::try_from(thousandths).unwrap_or(1000)) / 1000.0;
    (reads > 0).then_some(ratio)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hit_ratio_counts_what_a_level_answered() {
        assert_eq!(hit_ratio(&[(Outcome::HitL1, 0), (Outcome::Loaded, 0)]), None);
        let mixed = [
            (Outcome::HitL1, 5),
            (Outcome::NegativeL2, 1),
            (Outcome::Loaded, 1),
            (Outcome::Stale, 1),
        ];
        assert_eq!(hit_ratio(&mixed), Some(0.75));
    }
}
