//! Bounds of texts.

use super::*;

#[test]
fn symbols_hold_one_to_sixty_four_characters_as_given() {
    let longest = "é".repeat(64);
    let too_long = "é".repeat(65);
    let cases = [
        ("", Err(TextError::Empty)),
        (" ", Ok(())),
        (" USDC\u{200d} ", Ok(())),
        (longest.as_str(), Ok(())),
        (too_long.as_str(), Err(TextError::TooLong { chars: 65, max: 64 })),
        ("a\0b", Err(TextError::Nul)),
    ];
    for (text, expected) in cases {
        let symbol = Symbol::new(text);
        assert_eq!(symbol.as_ref().map(Symbol::as_str), expected.as_ref().map(|()| text));
    }
}
