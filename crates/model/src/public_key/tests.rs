//! Round trips and refusals of public keys.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn every_key_survives_its_text(bytes: [u8; 32]) {
        let key = PublicKey::from_bytes(bytes);
        prop_assert_eq!(key.to_string().parse::<PublicKey>(), Ok(key));
    }

    #[test]
    fn a_text_that_parses_is_the_text_that_prints(text in "[1-9A-HJ-NP-Za-km-z]{30,46}") {
        if let Ok(key) = text.parse::<PublicKey>() {
            prop_assert_eq!(key.to_string(), text);
        }
    }

    #[test]
    fn other_lengths_are_refused_with_their_length(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        prop_assume!(bytes.len() != 32);
        let text = bs58::encode(&bytes).into_string();
        prop_assert_eq!(
            text.parse::<PublicKey>(),
            Err(ParsePublicKeyError::WrongLength { bytes: bytes.len() })
        );
    }

    #[test]
    fn no_text_makes_it_panic(text: String) {
        let _ = text.parse::<PublicKey>();
    }
}

#[test]
fn refusals_say_what_is_wrong() {
    let long = "z".repeat(129);
    let cases = [
        ("", ParsePublicKeyError::WrongLength { bytes: 0 }),
        ("0", ParsePublicKeyError::NotBase58 { at: 0 }),
        ("abc def", ParsePublicKeyError::NotBase58 { at: 3 }),
        ("abcé", ParsePublicKeyError::NotBase58 { at: 3 }),
        ("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1l", ParsePublicKeyError::NotBase58 { at: 43 }),
        (&long, ParsePublicKeyError::TooLong { chars: 129 }),
    ];
    for (text, expected) in cases {
        assert_eq!(text.parse::<PublicKey>(), Err(expected), "{text:?}");
    }
}
