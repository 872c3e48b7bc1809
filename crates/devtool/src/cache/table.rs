//! What people read: one row for each service, and one for each kind of entry.

use std::fmt::Write as _;

use forebay_proto::ops::v1::{CacheEntityStats, CacheStats, GetCacheStatsResponse, ReasonCount};
use prost_types::Duration;

use crate::dev::table::align;
use crate::fleet::Answer;
use crate::trace::clock::Millis;

/// The tables, and the services that did not answer.
pub(super) fn text(instance: &str, answers: &[Answer<GetCacheStatsResponse>]) -> String {
    let mut text = format!("instance {instance}\n");
    let answered: Vec<_> = answers
        .iter()
        .filter_map(|one| Some((one.service.as_str(), one.reply.as_ref().ok()?)))
        .collect();
    let caches: Vec<_> = answered
        .iter()
        .filter_map(|(service, reply)| Some((*service, reply.cache.as_ref()?)))
        .collect();
    let entities: Vec<_> = answered
        .iter()
        .flat_map(|(service, reply)| reply.entities.iter().map(move |one| (*service, one)))
        .map(|(service, one)| (format!("{service}/{}", one.entity), one))
        .collect();
    block(&mut text, &align(&processes(&caches)));
    block(&mut text, &align(&reads(&entities)));
    block(&mut text, &align(&work(&entities)));
    let silent = answers.iter().filter_map(|one| {
        one.reply.as_ref().err().map(|problem| format!("  {}: {problem}", one.service))
    });
    block(&mut text, &silent.collect::<Vec<_>>());
    text
}

fn block(text: &mut String, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    text.push('\n');
    for line in lines {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "{line}");
    }
}

fn processes(caches: &[(&str, &CacheStats)]) -> Vec<[String; 11]> {
    let head = [
        "CACHE",
        "MEMORY",
        "ENTRIES",
        "LISTS",
        "CAUGHT UP",
        "REDIS",
        "BREAKER",
        "EPOCH",
        "PENDING",
        "ANNOUNCED",
        "GIVEN UP",
    ];
    let rows = caches.iter().map(|(service, cache)| {
        [
            (*service).to_owned(),
            format!("{} of {}", bytes(cache.l1_bytes), bytes(cache.l1_bytes_max)),
            cache.l1_entries.to_string(),
            format!("{} of {}", bytes(cache.l1_list_bytes), bytes(cache.l1_list_bytes_max)),
            with_errors(
                cache.caught_up_ago.as_ref().map_or_else(dash, |ago| age(Some(ago)) + " ago"),
                cache.tail_failures,
            ),
            with_errors(cache.l2_state.clone(), cache.l2_errors),
            cache.l2_breaker.as_ref().map_or_else(dash, |breaker| breaker.state.clone()),
            if cache.l2_epoch.is_empty() { dash() } else { cache.l2_epoch.clone() },
            format!("{} of {}", cache.pending_changes, cache.pending_changes_max),
            format!("{} of {}", cache.announced_changes, cache.announced_changes_max),
            given_up(cache),
        ]
    });
    with_head(head, rows)
}

fn with_errors(text: String, errors: u64) -> String {
    if errors == 0 { text } else { format!("{text} ({errors} errors)") }
}

/// How often everything was given up, and how often only what Redis holds.
fn given_up(cache: &CacheStats) -> String {
    let everything = listed(&cache.forgotten);
    if cache.l2_forgotten.is_empty() {
        return everything;
    }
    let of_redis = format!("in redis: {}", listed(&cache.l2_forgotten));
    if cache.forgotten.is_empty() { of_redis } else { format!("{everything}; {of_redis}") }
}

fn reads(entities: &[(String, &CacheEntityStats)]) -> Vec<[String; 8]> {
    let head =
        ["READS", "HIT RATIO", "MEMORY HITS", "REDIS HITS", "LOADED", "ABSENT", "STALE", "ENTRIES"];
    let rows = entities.iter().map(|(name, entity)| {
        let of = |names: &[&str]| -> String {
            let counts = entity.outcomes.iter().filter(|one| names.contains(&one.reason.as_str()));
            counts.map(|one| one.count).sum::<u64>().to_string()
        };
        [
            name.clone(),
            entity.hit_ratio.map_or_else(dash, |ratio| format!("{:.1} %", ratio * 100.0)),
            of(&["hit_l1", "negative_l1"]),
            of(&["hit_l2", "negative_l2"]),
            of(&["loaded"]),
            of(&["absent"]),
            of(&["stale"]),
            format!("{} ({})", entity.l1_entries, bytes(entity.l1_bytes)),
        ]
    });
    with_head(head, rows)
}

fn work(entities: &[(String, &CacheEntityStats)]) -> Vec<[String; 7]> {
    let head = ["NOW", "READING", "LOADS", "WAITING", "FILLS", "FORGOTTEN", "VERIFIED"];
    let rows = entities.iter().map(|(name, entity)| {
        [
            name.clone(),
            entity.reads_in_flight.to_string(),
            format!("{} of {}", entity.loads_in_flight, entity.loads_max),
            format!("{} of {}", entity.keys_waiting, entity.keys_waiting_max),
            listed(&entity.fills),
            listed(&entity.invalidations),
            listed(&entity.verified),
        ]
    });
    with_head(head, rows)
}

/// No rows, no head.
fn with_head<const COLUMNS: usize>(
    head: [&str; COLUMNS],
    rows: impl Iterator<Item = [String; COLUMNS]>,
) -> Vec<[String; COLUMNS]> {
    let mut rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        rows.insert(0, head.map(str::to_owned));
    }
    rows
}

fn listed(counts: &[ReasonCount]) -> String {
    let counts = counts.iter().filter(|one| one.count > 0);
    let words: Vec<_> = counts.map(|one| format!("{} {}", one.reason, one.count)).collect();
    if words.is_empty() { dash() } else { words.join(", ") }
}

/// A size in the unit that keeps it short.
fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

/// A time, or a dash where there is none.
pub(super) fn age(duration: Option<&Duration>) -> String {
    let time = duration.and_then(|duration| std::time::Duration::try_from(*duration).ok());
    time.map_or_else(dash, |time| {
        Millis(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)).to_string()
    })
}

fn dash() -> String {
    "-".to_owned()
}
