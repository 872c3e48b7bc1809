//! Which key is wanted next: few of them often.

/// The exponent of the distribution, as YCSB has it.
const EXPONENT: f64 = 0.99;

/// Keys by how often they are wanted: the most wanted is 0.
pub struct Skew {
    /// For every key the share of operations that want it or one before it.
    cumulative: Vec<f64>,
}

impl Skew {
    /// Zipf's law over so many keys.
    pub fn zipf(keys: usize) -> Self {
        let weights = (1..=keys).map(|rank| (rank as f64).powf(-EXPONENT));
        let total: f64 = weights.clone().sum();
        let cumulative = weights
            .scan(0.0, |sum, weight| {
                *sum += weight / total;
                Some(*sum)
            })
            .collect();
        Self { cumulative }
    }

    /// The key for a random number.
    pub fn rank(&self, random: u64) -> usize {
        let share = (random >> 11) as f64 / (1_u64 << 53) as f64;
        let last = self.cumulative.len().saturating_sub(1);
        self.cumulative.partition_point(|sum| *sum < share).min(last)
    }
}

/// Xorshift (Marsaglia, 2003): spreads the keys, costs nothing.
pub struct Random(u64);

impl Random {
    /// The numbers of a task; no two seeds have the same.
    pub fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::{Random, Skew};

    #[test]
    fn few_keys_are_wanted_often() {
        let (skew, mut random) = (Skew::zipf(1_000), Random::new(7));
        let mut wanted = vec![0_u32; 1_000];
        for _ in 0..100_000 {
            wanted[skew.rank(random.draw())] += 1;
        }
        // The harmonic number of 1,000 keys is about 7.7 with this exponent.
        assert!((11_500..14_500).contains(&wanted[0]), "{}", wanted[0]);
        let half: u32 = wanted[..32].iter().sum();
        assert!((45_000..60_000).contains(&half), "{half}");
        assert_eq!((skew.rank(0), skew.rank(u64::MAX)), (0, 999));
    }
}
