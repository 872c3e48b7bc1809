//! The seed data, compiled in.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read as _;

use anyhow::Context as _;
use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};

const TOKENS: &[u8] = include_bytes!("../data/tokens.jsonl.gz");
const POOLS: &str = include_str!("../data/pools.jsonl");

/// One token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SeedToken {
    /// Mint address.
    pub mint: String,
    /// Ticker symbol.
    pub symbol: String,
    /// Display name.
    pub name: String,
    /// Decimal places, 0 to 255.
    pub decimals: u8,
    /// What is stored as `metadata`.
    #[serde(flatten)]
    pub metadata: SeedMetadata,
}

/// Facts that only some tokens have; an unknown one is absent from the stored object too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct SeedMetadata {
    /// Address of the logo image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logo_uri: Option<String>,
    /// Labels in their given order, with what occurs twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// Further facts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<BTreeMap<String, String>>,
}

/// One liquidity pool.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedPool {
    /// Address of the pool's account.
    pub pool_address: String,
    /// Exchange.
    pub dex: String,
    /// Mint of the base token.
    pub base_mint: String,
    /// Mint of the quote token.
    pub quote_mint: String,
    /// Account that holds the base reserve.
    pub base_vault: String,
    /// Account that holds the quote reserve.
    pub quote_vault: String,
    /// Mint of the liquidity token.
    pub lp_mint: String,
    /// Decimal places of the liquidity token, 0 to 255.
    pub lp_decimals: u8,
    /// `constant_product` or `stable`.
    pub curve: String,
    /// Fee of liquidity providers in basis points; the source writes whole numbers as `25.0`.
    pub trade_fee_bps: f64,
    /// Fee of the exchange in basis points.
    pub owner_fee_bps: f64,
    /// Display name.
    pub name: String,
}

/// The tokens in the order of mints.
///
/// # Errors
///
/// When the compiled-in data is damaged.
pub fn tokens() -> anyhow::Result<Vec<SeedToken>> {
    let mut text = String::new();
    GzDecoder::new(TOKENS).read_to_string(&mut text).context("unpack the token data")?;
    lines(&text).context("read the token data")
}

/// The pools in the order of the source.
///
/// # Errors
///
/// When the compiled-in data is damaged.
pub fn pools() -> anyhow::Result<Vec<SeedPool>> {
    lines(POOLS).context("read the pool data")
}

pub(crate) fn fingerprint() -> u64 {
    let mut hasher = DefaultHasher::new();
    (TOKENS, POOLS).hash(&mut hasher);
    hasher.finish()
}

fn lines<T: for<'de> Deserialize<'de>>(text: &str) -> anyhow::Result<Vec<T>> {
    text.lines()
        .enumerate()
        .map(|(at, line)| serde_json::from_str(line).with_context(|| format!("line {}", at + 1)))
        .collect()
}
