//! Repeatable numbers: SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
//! generators", 2014). Written out here because the rows of a seed must never change, and
//! libraries are free to change the numbers they draw.

use forebay_model::PublicKey;
use uuid::{Builder, Uuid};

/// 2026-01-01T00:00:00Z in milliseconds: when all synthetic rows are said to be made.
const MADE_AT: u64 = 1_767_225_600_000;

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

pub(super) struct Random(u64);

impl Random {
    /// The numbers of row `index` of one kind.
    pub(super) fn new(seed: u64, kind: &str, index: u64) -> Self {
        let kind = kind.bytes().fold(0, |hash: u64, byte| mix(hash ^ u64::from(byte)));
        Self(mix(seed ^ mix(kind ^ mix(index.wrapping_add(GAMMA)))))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }

    /// A number below `end`. Its bias of at most `end / 2^64` does not matter here.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Once in `times`.
    pub(super) fn chance(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(super) fn index(&mut self, len: usize) -> usize {
        let len = u64::try_from(len).expect("a length fits 64 bits");
        usize::try_from(self.below(len)).expect("it is below a length")
    }

    pub(super) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.index(choices.len())]
    }

    /// A public key in base58.
    pub(super) fn address(&mut self) -> String {
        let mut bytes = [0; 32];
        for eight in bytes.chunks_exact_mut(8) {
            eight.copy_from_slice(&self.next().to_be_bytes());
        }
        PublicKey::from_bytes(bytes).to_string()
    }

    /// A version 7 UUID.
    pub(super) fn uuid(&mut self) -> Uuid {
        let bytes = (u128::from(self.next()) << 64 | u128::from(self.next())).to_be_bytes();
        let mut random = [0; 10];
        random.copy_from_slice(&bytes[..10]);
        Builder::from_unix_timestamp_millis(MADE_AT, &random).into_uuid()
    }
}

/// The finalizer of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
