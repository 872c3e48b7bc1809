//! Tokens that were changed, made up or moved are refused.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use forebay_config::Secret;
use proptest::prelude::*;
use prost_types::FieldMask;

use super::{Fingerprint, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, PageTokens, page_size};

const LIST: &str = "forebay.token.v1.TokenService/ListTokens";

/// Any message serves as a filter.
fn filter(text: &str) -> FieldMask {
    FieldMask { paths: vec![text.to_owned()] }
}

fn tokens() -> PageTokens {
    PageTokens::new(&Secret::new("one key"))
}

#[test]
fn coerces_sizes_and_refuses_negative_ones() {
    for (asked, size) in [(0, PAGE_SIZE_DEFAULT), (1, 1), (1000, 1000), (1001, PAGE_SIZE_MAX)] {
        assert_eq!(page_size(asked).expect("a size"), size);
    }
    for negative in [-1, i32::MIN] {
        assert_eq!(page_size(negative).expect_err("negative").field, "page_size");
    }
}

#[test]
fn no_filter_is_an_empty_filter() {
    let none = Fingerprint::new::<FieldMask>(LIST, None);
    assert_eq!(none, Fingerprint::new(LIST, Some(&FieldMask::default())));
    assert_ne!(none, Fingerprint::new(LIST, Some(&filter("USDC"))));
}

#[test]
fn a_token_holds_for_its_key_method_and_filter_alone() {
    let usdc = Fingerprint::new(LIST, Some(&filter("USDC")));
    let token = tokens().encode(usdc, b"EPjF");
    assert_eq!(tokens().decode(usdc, &token).expect("ours"), Some(b"EPjF".to_vec()));
    assert_eq!(tokens().decode(usdc, "").expect("first page"), None);

    let sol = Fingerprint::new(LIST, Some(&filter("SOL")));
    let other_method = Fingerprint::new("x.Y/ListZ", Some(&filter("USDC")));
    for foreign in [sol, other_method] {
        let violation = tokens().decode(foreign, &token).expect_err("bound elsewhere");
        assert_eq!(violation.field, "page_token");
    }
    let other_key = PageTokens::new(&Secret::new("another key"));
    assert!(other_key.decode(usdc, &token).is_err());
    for made_up in ["x", "AQ", "\u{e9}", &"A".repeat(100), &"A".repeat(10_000)] {
        assert!(tokens().decode(usdc, made_up).is_err(), "{made_up}");
    }
}

proptest! {
    #[test]
    fn one_changed_bit_is_noticed(cursor: Vec<u8>, at: prop::sample::Index, bit in 0_u8..8) {
        let bound_to = Fingerprint::new(LIST, Some(&filter("USDC")));
        let token = tokens().encode(bound_to, &cursor);
        let mut bytes = URL_SAFE_NO_PAD.decode(&token).expect("our own alphabet");
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(tokens().decode(bound_to, &URL_SAFE_NO_PAD.encode(bytes)).is_err());
    }
}
