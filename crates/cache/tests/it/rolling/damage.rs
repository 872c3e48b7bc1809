//! Damaged entries, made of sound ones.

use rand::RngExt as _;
use rand::rngs::SmallRng;

/// Length of what comes before a body, of that a checksum covers all but the checksum itself.
const HEADER: usize = 77;
const COVERED: usize = 61;
/// Where the schema and the length of the body are written.
const SCHEMA: std::ops::Range<usize> = 33..37;
const LENGTH: std::ops::Range<usize> = 53..61;
/// Sound entries that are remembered.
const KNOWN_MAX: usize = 64;

/// Makes damaged entries of the sound ones it has seen.
#[derive(Debug, Default)]
pub(super) struct Damage {
    known: Vec<Vec<u8>>,
}

impl Damage {
    /// Remembers an entry, if it is sound and a release has stored it.
    pub(super) fn learn(&mut self, entry: &[u8]) {
        if !is_sound(entry) || was_made_here(entry) {
            return;
        }
        if self.known.len() == KNOWN_MAX {
            self.known.remove(0);
        }
        self.known.push(entry.to_vec());
    }

    /// Something that nobody has stored so; `None` while nothing is known to make it of.
    pub(super) fn make(&self, rng: &mut SmallRng) -> Option<Vec<u8>> {
        let whole = self.known.get(rng.random_range(0..self.known.len().max(1)))?;
        let other = &self.known[rng.random_range(0..self.known.len())];
        let at = |rng: &mut SmallRng, of: &[u8]| rng.random_range(0..of.len());
        let mut damaged = whole.clone();
        let is_value = whole.first() == Some(&b'V');
        match rng.random_range(0..12) {
            0 | 1 => {
                for _ in 0..rng.random_range(1..4) {
                    let place = at(rng, &damaged);
                    damaged[place] ^= 1 << rng.random_range(0..8);
                }
            }
            // One digit of the version, the epoch or the rest of the header.
            2 | 3 => {
                let place = rng.random_range(1..damaged.len().min(COVERED));
                damaged[place] = b"0123456789abcdef"[rng.random_range(0..16)];
            }
            4 => damaged.truncate(at(rng, whole)),
            5 => damaged.extend_from_slice(&other[at(rng, other)..]),
            6 => {
                damaged.truncate(at(rng, whole));
                damaged.extend_from_slice(&other[at(rng, other)..]);
            }
            7 => damaged[0] = b"VNTX"[rng.random_range(0..4)],
            8 => damaged = (0..rng.random_range(0..200)).map(|_| rng.random()).collect(),
            // Sound in itself, and of another release.
            9 if is_value => {
                return Some(resealed(whole, |header, _| header[SCHEMA.start + 3] ^= 1));
            }
            // Sound in itself, and no value.
            10 if is_value => {
                return Some(resealed(whole, |_, body| *body = vec![0xff; body.len()]));
            }
            // Sound in itself, and larger than any value may be.
            11 if is_value => {
                return Some(resealed(whole, |_, body| {
                    body.extend(std::iter::repeat_n(b'x', 9_000))
                }));
            }
            _ => {
                let place = at(rng, &damaged);
                damaged[place..].fill(b'0');
            }
        }
        // What chance has left whole is no damage.
        (!is_sound(&damaged)).then_some(damaged)
    }
}

/// The entry with another header or body, and a checksum that says that it was meant so.
fn resealed(entry: &[u8], change: impl FnOnce(&mut [u8], &mut Vec<u8>)) -> Vec<u8> {
    let (mut header, mut body) = (entry[..COVERED].to_vec(), entry[HEADER..].to_vec());
    change(&mut header, &mut body);
    let length = format!("{:08x}", body.len());
    header[LENGTH].copy_from_slice(length.as_bytes());
    let sum = checksum(&[&header, &body]);
    [header.as_slice(), format!("{sum:016x}").as_bytes(), &body].concat()
}

/// Whether the checksum of an entry is its own.
fn is_sound(entry: &[u8]) -> bool {
    let sealed = |covered: &[&[u8]], sum: Option<&[u8]>| {
        sum.is_some_and(|sum| sum == format!("{:016x}", checksum(covered)).as_bytes())
    };
    match entry.first() {
        Some(b'T') => entry.len() == 33 && sealed(&[&entry[..17]], entry.get(17..33)),
        Some(b'V' | b'N') if entry.len() >= HEADER => {
            sealed(&[&entry[..COVERED], &entry[HEADER..]], entry.get(COVERED..HEADER))
        }
        _ => false,
    }
}

/// Whether a sound entry is one of the resealed ones.
fn was_made_here(entry: &[u8]) -> bool {
    let is_of_a_release = matches!(entry.get(SCHEMA), None | Some(b"0003" | b"0004"));
    let body = entry.get(HEADER..).unwrap_or_default();
    !is_of_a_release || body.len() > 4_096 || str::from_utf8(body).is_err()
}

/// FNV-1a over eight bytes at a time, as the product has it.
fn checksum(parts: &[&[u8]]) -> u64 {
    parts.iter().flat_map(|part| part.chunks(8)).fold(0xcbf2_9ce4_8422_2325, |sum: u64, word| {
        let mut bytes = [0; 8];
        bytes[..word.len()].copy_from_slice(word);
        let sum = (sum ^ u64::from_le_bytes(bytes)).wrapping_mul(0x0000_0100_0000_01b3);
        sum ^ (sum >> 32)
    })
}
