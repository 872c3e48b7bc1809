//! Liquidity pools.

use std::time::SystemTime;

use crate::{
    Curve, Decimals, Dex, FeeBps, Mint, PoolAddress, PoolId, PoolName, TokenId, VaultAddress,
    Version,
};

/// A liquidity pool of two tokens, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Assigned by the server.
    pub id: PoolId,
    /// Address of its account. Never changes.
    pub pool_address: PoolAddress,
    /// The exchange. Never changes.
    pub dex: Dex,
    /// Mint of the base token. Never changes.
    pub base_mint: Mint,
    /// Mint of the quote token. Never changes.
    pub quote_mint: Mint,
    /// Id of the base token.
    pub base_token_id: TokenId,
    /// Id of the quote token.
    pub quote_token_id: TokenId,
    /// Everything that may change.
    pub facts: PoolFacts,
    /// Version of the row.
    pub version: Version,
    /// When it was created.
    pub created_at: SystemTime,
    /// When it was last changed.
    pub updated_at: SystemTime,
}

/// What is known about a liquidity pool and may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolFacts {
    /// Token account that holds the base reserve.
    pub base_vault: VaultAddress,
    /// Token account that holds the quote reserve.
    pub quote_vault: VaultAddress,
    /// Mint of its liquidity token.
    pub lp_mint: Mint,
    /// Decimal places of its liquidity token.
    pub lp_decimals: Decimals,
    /// How it prices a swap.
    pub curve: Curve,
    /// Fee kept by liquidity providers.
    pub trade_fee: FeeBps,
    /// Fee kept by the exchange.
    pub owner_fee: FeeBps,
    /// Display name.
    pub name: PoolName,
}
