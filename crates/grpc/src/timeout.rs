//! The `grpc-timeout` header.
//!
//! Format: gRPC over HTTP/2, "Timeout": up to eight digits and a unit.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

/// Name of the header that carries the time a caller will wait.
pub(crate) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The largest number that the format can carry.
const VALUE_MAX: u128 = 99_999_999;

/// The time in a `grpc-timeout` value; `None` when it is malformed.
pub(crate) fn parse(value: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = value.as_bytes().split_last()?;
    if !(1..=8).contains(&digits.len()) {
        return None;
    }
    let mut amount = 0_u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        amount = amount * 10 + u64::from(digit - b'0');
    }
    match unit {
        b'H' => Some(Duration::from_secs(amount * 3600)),
        b'M' => Some(Duration::from_secs(amount * 60)),
        b'S' => Some(Duration::from_secs(amount)),
        b'm' => Some(Duration::from_millis(amount)),
        b'u' => Some(Duration::from_micros(amount)),
        b'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

/// `timeout` as a header value, in the finest unit that can hold it.
///
/// Rounded down, so that a peer never believes it has more time than we do.
pub(crate) fn format(timeout: Duration) -> HeaderValue {
    let units = [
        (timeout.as_nanos(), 'n'),
        (timeout.as_micros(), 'u'),
        (timeout.as_millis(), 'm'),
        (u128::from(timeout.as_secs()), 'S'),
        (u128::from(timeout.as_secs() / 60), 'M'),
    ];
    let (amount, unit) =
        units.into_iter().find(|(amount, _)| *amount <= VALUE_MAX).unwrap_or((VALUE_MAX, 'M'));
    HeaderValue::from_str(&format!("{amount}{unit}")).expect("digits and a letter are a value")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;

    use super::{format, parse};

    #[test]
    fn reads_every_unit_and_nothing_else() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("40m", Some(Duration::from_millis(40))),
            ("5u", Some(Duration::from_micros(5))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("0S", Some(Duration::ZERO)),
            ("", None),
            ("S", None),
            ("10", None),
            ("-1S", None),
            ("1s", None),
            ("123456789S", None),
        ] {
            assert_eq!(parse(&HeaderValue::from_static(text)), expected, "{text}");
        }
    }

    #[test]
    fn writes_what_it_reads_never_more() {
        for timeout in [
            Duration::ZERO,
            Duration::from_nanos(1),
            Duration::from_millis(250),
            Duration::from_secs(10),
            Duration::from_secs(3600),
            Duration::new(99_999_999, 999_999_999),
            Duration::MAX,
        ] {
            let read = parse(&format(timeout)).expect("our own format");
            assert!(read <= timeout, "{timeout:?} became {read:?}");
            assert!(
                timeout > Duration::from_secs(99_999_999)
                    || timeout - read < Duration::from_secs(1),
                "{timeout:?} became {read:?}"
            );
        }
    }
}
