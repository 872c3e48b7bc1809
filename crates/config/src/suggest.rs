//! "Did you mean": the nearest known name to a mistyped one.

/// The known name nearest to `name`, when it is near enough to be a slip of the pen.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near_enough = (name.len() / 4).max(2);
    // The last part decides when somebody forgot or mistook the section.
    let last = |name: &str| name.rsplit('.').next().map(str::to_owned);
    let candidates: Vec<&str> = known.collect();
    let by_distance = candidates.iter().map(|known| (distance(name, known), *known)).min();
    if let Some((distance, known)) = by_distance
        && distance <= near_enough
    {
        return Some(known);
    }
    let mut same_last = candidates.into_iter().filter(|known| last(known) == last(name));
    match (same_last.next(), same_last.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// Levenshtein distance with one row of memory.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, from) in left.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], above + 1);
        for (column, to) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_only_what_was_likely_meant() {
        let known = ["grpc.listen", "ops.listen", "redis.lanes", "grpc.lame_duck"];
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(nearest(name, known.into_iter()), expected, "{name}");
        };
        check("grpc.lisen", Some("grpc.listen"));
        check("redis.lane", Some("redis.lanes"));
        check("lame_duck", Some("grpc.lame_duck"));
        check("server.lame_duck", Some("grpc.lame_duck"));
        check("campaign.batch_size", None);
    }
}
