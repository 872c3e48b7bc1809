//! What is said of one entry, and of what was done.

use forebay_proto::ops::v1::{CacheLevelEntry, InspectCacheEntryResponse};

use super::table::age;
use crate::dev::table::align;
use crate::fleet::Answer;

/// One row for each level of each service that knows the entity.
pub(super) fn levels(answers: &[Answer<InspectCacheEntryResponse>]) -> String {
    let mut rows =
        vec![["SERVICE", "LEVEL", "VERSION", "BYTES", "AGE", "LEFT", ""].map(str::to_owned)];
    for Answer { service, reply } in answers {
        // A service that has no such entity is not asked about it.
        let Ok(levels) = reply else { continue };
        rows.push(row(service, "memory", levels.l1.as_ref()));
        rows.push(row(service, "redis", levels.l2.as_ref()));
    }
    align(&rows).into_iter().map(|line| line + "\n").collect()
}

fn row(service: &str, level: &str, entry: Option<&CacheLevelEntry>) -> [String; 7] {
    let cells = match entry {
        None => [(); 4].map(|()| "-".to_owned()),
        Some(entry) => [
            entry.version.to_string(),
            entry.size_bytes.to_string(),
            age(entry.age.as_ref()),
            age(entry.time_to_live.as_ref()),
        ],
    };
    let [version, bytes, old, left] = cells;
    let kind = match entry {
        None => "not there",
        Some(entry) if entry.negative => "no such row",
        Some(_) => "",
    };
    [service.to_owned(), level.to_owned(), version, bytes, old, left, kind.to_owned()]
}

/// One line for each service that did what it was told.
pub(super) fn done<T>(answers: &[Answer<T>], words: impl Fn(&T) -> String) -> String {
    let lines = answers.iter().filter_map(|Answer { service, reply }| {
        reply.as_ref().ok().map(|reply| format!("{service}: {}\n", words(reply)))
    });
    lines.collect()
}
