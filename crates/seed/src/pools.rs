//! A liquidity pool as its row.

use anyhow::{Context as _, ensure};
use forebay_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::source::SeedPool;

pub(crate) const STAGE: &str = "CREATE TEMP TABLE staged_pools (
    id uuid, pool_address text COLLATE \"C\", dex text, base_mint text COLLATE \"C\",
    quote_mint text COLLATE \"C\", base_vault text, quote_vault text, lp_mint text,
    lp_decimals smallint, curve text, trade_fee_bps integer, owner_fee_bps integer, name text
) ON COMMIT DROP";

pub(crate) const COPY: &str = "COPY staged_pools (id, pool_address, dex, base_mint, quote_mint,
    base_vault, quote_vault, lp_mint, lp_decimals, curve, trade_fee_bps, owner_fee_bps, name)
    FROM STDIN (FORMAT binary)";

pub(crate) const TYPES: [Type; 13] = [
    Type::UUID,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::INT2,
    Type::TEXT,
    Type::INT4,
    Type::INT4,
    Type::TEXT,
];

/// A pool whose token is missing, or nothing.
pub(crate) const MISSING: &str = "SELECT s.pool_address FROM staged_pools AS s
    WHERE NOT EXISTS (SELECT FROM tokens AS t WHERE t.mint = s.base_mint)
        OR NOT EXISTS (SELECT FROM tokens AS t WHERE t.mint = s.quote_mint)
    LIMIT 1";

/// The exchange and the tokens of a pool never change, so they are not reset.
pub(crate) const RESET: &str = "UPDATE pools AS p
    SET base_vault = s.base_vault, quote_vault = s.quote_vault, lp_mint = s.lp_mint,
        lp_decimals = s.lp_decimals, curve = s.curve, trade_fee_bps = s.trade_fee_bps,
        owner_fee_bps = s.owner_fee_bps, name = s.name
    FROM staged_pools AS s
    WHERE p.pool_address = s.pool_address
        AND (p.base_vault, p.quote_vault, p.lp_mint, p.lp_decimals, p.curve, p.trade_fee_bps,
            p.owner_fee_bps, p.name)
            IS DISTINCT FROM (s.base_vault, s.quote_vault, s.lp_mint, s.lp_decimals, s.curve,
            s.trade_fee_bps, s.owner_fee_bps, s.name)";

/// As for tokens: what exists uses up no version.
pub(crate) const INSERT: &str = "INSERT INTO pools (id, pool_address, dex, base_token_id,
        quote_token_id, base_vault, quote_vault, lp_mint, lp_decimals, curve, trade_fee_bps,
        owner_fee_bps, name)
    SELECT s.id, s.pool_address, s.dex, base.id, quote.id, s.base_vault, s.quote_vault, s.lp_mint,
        s.lp_decimals, s.curve, s.trade_fee_bps, s.owner_fee_bps, s.name
    FROM staged_pools AS s
    JOIN tokens AS base ON base.mint = s.base_mint
    JOIN tokens AS quote ON quote.mint = s.quote_mint
    WHERE NOT EXISTS (SELECT FROM pools AS p WHERE p.pool_address = s.pool_address)
    ORDER BY s.pool_address
    ON CONFLICT (pool_address) DO NOTHING";

/// The columns of one row that are not text of the source.
pub(crate) struct PoolRow<'a> {
    id: Uuid,
    pool: &'a SeedPool,
    lp_decimals: i16,
    trade_fee_bps: i32,
    owner_fee_bps: i32,
}

impl<'a> PoolRow<'a> {
    pub(crate) fn new(id: Uuid, pool: &'a SeedPool) -> anyhow::Result<Self> {
        let fee = |bps| whole_bps(bps).with_context(|| format!("fees of {}", pool.pool_address));
        Ok(Self {
            id,
            pool,
            lp_decimals: pool.lp_decimals.into(),
            trade_fee_bps: fee(pool.trade_fee_bps)?,
            owner_fee_bps: fee(pool.owner_fee_bps)?,
        })
    }

    pub(crate) fn columns(&self) -> [&(dyn ToSql + Sync); 13] {
        let pool = self.pool;
        [
            &self.id,
            &pool.pool_address,
            &pool.dex,
            &pool.base_mint,
            &pool.quote_mint,
            &pool.base_vault,
            &pool.quote_vault,
            &pool.lp_mint,
            &self.lp_decimals,
            &pool.curve,
            &self.trade_fee_bps,
            &self.owner_fee_bps,
            &pool.name,
        ]
    }
}

/// Basis points are whole: a fraction in the source is refused, never rounded.
fn whole_bps(bps: f64) -> anyhow::Result<i32> {
    ensure!((0.0..=10_000.0).contains(&bps), "{bps} basis points are out of range");
    ensure!(bps.fract() == 0.0, "{bps} basis points are not a whole number");
    #[expect(clippy::as_conversions, reason = "a whole number from 0 to 10,000 was just checked")]
    Ok(bps as i32)
}
