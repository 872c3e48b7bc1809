//! What we wrote is read; anything else is not.

use bytes::Bytes;

use super::*;

fn header() -> Header {
    Header { epoch: Epoch::fresh(), schema: 7, filled_at_ms: 1_700_000_000_000 }
}

#[test]
fn what_was_written_is_read() {
    let header = header();
    for (body, version) in [(b"".as_slice(), 0), (b"\x00\xffbody", 42), (b"x", i64::MAX)] {
        let stored = Bytes::from(encode(Some(body), version, &header));
        let content = Content::Value { body: Bytes::copy_from_slice(body), header };
        assert_eq!(decode(&stored), Some(Stored { content, version }));
    }
    let stored = Bytes::from(encode(None, 9, &header));
    let content = Content::Negative { header };
    assert_eq!(decode(&stored), Some(Stored { content, version: 9 }));
    let stored = Bytes::from(tombstone(5));
    assert_eq!(decode(&stored), Some(Stored { content: Content::Tombstone, version: 5 }));
}

/// Releases share a Redis: what one of them takes for damaged it deletes, so each has to read what the
/// others store. Fails when the stored form changes; then the keys must change with it.
#[test]
fn the_stored_form_stays_as_it_is() {
    let epoch = Epoch::parse(b"00112233445566aa").expect("an epoch");
    let header = Header { epoch, schema: 7, filled_at_ms: 1_700_000_000_000 };
    let stored = encode(Some(b"a body of 18 bytes"), 42, &header);
    let expected = "V000000000000002a00112233445566aa00070000018bcfe5680000000012";
    let text = String::from_utf8(stored).expect("text");
    assert_eq!(text, format!("{expected}481c4f4f52719849a body of 18 bytes"));
    assert_eq!(tombstone(5), "T0000000000000005b2cc8144a74936d7");
}

/// Fails without the length or the checksum: most of the damaged values would decode.
#[test]
fn every_damage_is_noticed() {
    for whole in [encode(Some(b"a body of some length"), 3, &header()), tombstone(3).into_bytes()] {
        every_damage_of(&whole);
    }
    let sign = Bytes::from_static(b"T+00000000000000a");
    assert_eq!(decode(&sign), None);
}

fn every_damage_of(whole: &[u8]) {
    for length in 0..whole.len() {
        assert_eq!(decode(&Bytes::copy_from_slice(&whole[..length])), None, "cut at {length}");
    }
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut damaged = whole.to_vec();
            damaged[at] ^= 1 << bit;
            assert_eq!(decode(&Bytes::from(damaged)), None, "bit {bit} of byte {at}");
        }
    }
    let longer = [whole, b"!"].concat();
    assert_eq!(decode(&Bytes::from(longer)), None);
}

#[test]
fn versions_compare_as_text() {
    let mut versions = [0, 1, 9, 10, 255, 256, i64::MAX - 1, i64::MAX];
    versions.sort_by_key(|version| version_text(*version));
    assert!(versions.is_sorted());
    assert_eq!(version_text(-1), version_text(0), "versions are never negative");
}
