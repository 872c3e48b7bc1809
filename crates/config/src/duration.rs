//! Durations as people write them: a whole number and a unit.

use std::time::Duration;

const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads `250ms`, `10s`, `5m`, `1h` or `2d`; `None` for anything else.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let (_, milliseconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*milliseconds).map(Duration::from_millis)
}

/// Writes a duration in the largest unit that divides it.
pub(crate) fn format(duration: Duration) -> String {
    let total = duration.as_millis();
    let fits = |(_, unit): &&(&str, u64)| total.is_multiple_of(u128::from(*unit)) && total > 0;
    match UNITS.iter().rev().find(fits) {
        Some((name, unit)) => format!("{}{name}", total / u128::from(*unit)),
        None => "0s".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        let good = [("250ms", 250), ("10s", 10_000), ("5m", 300_000), ("1h", 3_600_000)];
        for (text, milliseconds) in good {
            assert_eq!(parse(text), Some(Duration::from_millis(milliseconds)), "{text}");
            assert_eq!(format(Duration::from_millis(milliseconds)), text);
        }
        assert_eq!(parse("0s"), Some(Duration::ZERO));
        assert_eq!(format(Duration::ZERO), "0s");
        for text in ["", "10", "s", "-1s", "1.5s", "1 s", "10S", "99999999999999999999s", "1h5m"] {
            assert_eq!(parse(text), None, "{text}");
        }
        let overflow = format!("{}d", u64::MAX);
        assert_eq!(parse(&overflow), None);
    }
}
