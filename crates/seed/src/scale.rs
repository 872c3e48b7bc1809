//! Synthetic tokens and pools for load work.
//!
//! Row `i` depends on the seed and on `i` alone. The rows have the shape of the real ones: few
//! exchanges, few tags, symbols used many times, half of the pools against one of four hub tokens.

mod random;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use forebay_postgres::maintenance::Maintenance;
use uuid::Uuid;

use crate::load::{self, CHUNK, Existing};
use crate::source::{SeedMetadata, SeedPool, SeedToken};
use crate::{Progress, Report, Stage};
use random::Random;

/// Synthetic tokens for each synthetic pool.
pub const POOLS_PER_TOKENS: u64 = 4;

/// The first tokens of a seed, which half of its pools trade against.
const HUBS: u64 = 4;

const DEXES: [&str; 5] = ["raydium", "orca", "meteora", "lifinity", "saber"];
const TAGS: [&str; 8] = [
    "social-token",
    "community-token",
    "meme",
    "defi",
    "stablecoin",
    "lp-token",
    "game",
    "wrapped",
];
const FIRST_WORDS: [&str; 12] = [
    "Amber", "Bright", "Calm", "Deep", "Early", "Fair", "Golden", "High", "Iron", "Little", "Río",
    "Silver",
];
const LAST_WORDS: [&str; 12] = [
    "Anchor", "Bridge", "Current", "Delta", "Eddy", "Ford", "Harbor", "Mill", "Rapids", "Spring",
    "Tide", "Weir",
];

/// Loads `count` tokens and their pools.
pub(crate) async fn run(
    connection: &mut Maintenance,
    count: u64,
    seed: u64,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> anyhow::Result<Report> {
    let mut report = Report::default();
    for chunk in chunks(count) {
        let tokens: Vec<_> = chunk.map(|index| synthetic_token(seed, index)).collect();
        let rows = tokens.iter().map(|(id, token)| (*id, token));
        report.tokens.add(load::token_chunk(connection, rows, Existing::Keep).await?);
        progress(Progress { stage: Stage::Tokens, done: report.tokens.total(), total: count });
    }
    // A pool needs two tokens.
    let pools = if count < 2 { 0 } else { count / POOLS_PER_TOKENS };
    for chunk in chunks(pools) {
        let pools_of_chunk: Vec<_> = chunk.map(|index| synthetic_pool(seed, index)).collect();
        let rows = pools_of_chunk.iter().map(|(id, pool)| (*id, pool));
        report.pools.add(load::pool_chunk(connection, rows, Existing::Keep).await?);
        progress(Progress { stage: Stage::Pools, done: report.pools.total(), total: pools });
    }
    Ok(report)
}

/// Token number `index` of a seed, with its id.
pub fn synthetic_token(seed: u64, index: u64) -> (Uuid, SeedToken) {
    let mut random = Random::new(seed, "token", index);
    let (id, mint) = (random.uuid(), mint(seed, index));
    let tags =
        (!random.chance(3)).then(|| (0..1 + random.below(3)).map(|_| tag(&mut random)).collect());
    let website = format!("https://{index}.example.org");
    let extensions = random.chance(4).then(|| BTreeMap::from([("website".to_owned(), website)]));
    let token = SeedToken {
        symbol: symbol(&mut random),
        name: format!("{} {} {index}", random.pick(&FIRST_WORDS), random.pick(&LAST_WORDS)),
        decimals: *random.pick(&[9, 9, 9, 6, 6, 8, 0, 2]),
        metadata: SeedMetadata {
            logo_uri: random.chance(2).then(|| format!("https://logo.example.org/{mint}.png")),
            tags,
            extensions,
        },
        mint,
    };
    (id, token)
}

/// Pool number `index` of a seed, with its id. Its tokens are among the first
/// `(index + 1) * POOLS_PER_TOKENS`, so they exist however many tokens there are.
pub fn synthetic_pool(seed: u64, index: u64) -> (Uuid, SeedPool) {
    let mut random = Random::new(seed, "pool", index);
    let known = (index + 1) * POOLS_PER_TOKENS;
    let quote = if random.chance(2) { random.below(HUBS.min(known)) } else { random.below(known) };
    // Stepping from the quote by less than a whole round never lands on it.
    let base = (quote + 1 + random.below(known - 1)) % known;
    let stable = random.chance(10);
    let pool = SeedPool {
        pool_address: random.address(),
        dex: (*random.pick(&DEXES)).to_owned(),
        base_mint: mint(seed, base),
        quote_mint: mint(seed, quote),
        base_vault: random.address(),
        quote_vault: random.address(),
        lp_mint: random.address(),
        lp_decimals: *random.pick(&[6, 9]),
        curve: if stable { "stable" } else { "constant_product" }.to_owned(),
        trade_fee_bps: *random.pick(&[25.0, 25.0, 30.0, 6.0, 1.0]),
        owner_fee_bps: *random.pick(&[5.0, 0.0, 1.0]),
        name: format!("pool {index}"),
    };
    (random.uuid(), pool)
}

fn mint(seed: u64, index: u64) -> String {
    Random::new(seed, "mint", index).address()
}

fn tag(random: &mut Random) -> String {
    // The smaller of two draws: the first tags are common, the last ones rare.
    let (one, other) = (random.index(TAGS.len()), random.index(TAGS.len()));
    TAGS[one.min(other)].to_owned()
}

/// Three or four letters: symbols repeat, as the real ones do.
fn symbol(random: &mut Random) -> String {
    let letters = 3 + random.below(2);
    (0..letters).map(|_| char::from(*random.pick(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"))).collect()
}

fn chunks(count: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
    let chunk = u64::try_from(CHUNK).expect("a chunk is a few thousand rows");
    (0..count.div_ceil(chunk)).map(move |number| number * chunk..count.min((number + 1) * chunk))
}
