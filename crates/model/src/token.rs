//! Fungible tokens.

use std::time::SystemTime;

use crate::{Decimals, Extensions, LogoUri, Mint, Symbol, Tags, TokenId, TokenName, Version};

/// A fungible token (SPL mint), as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Assigned by the server.
    pub id: TokenId,
    /// Address of its mint. Never changes.
    pub mint: Mint,
    /// Everything that may change.
    pub facts: TokenFacts,
    /// Version of the row.
    pub version: Version,
    /// When it was created.
    pub created_at: SystemTime,
    /// When it was last changed.
    pub updated_at: SystemTime,
}

/// What is known about a token and may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFacts {
    /// Ticker symbol.
    pub symbol: Symbol,
    /// Display name.
    pub name: TokenName,
    /// Decimal places of one whole token.
    pub decimals: Decimals,
    /// Address of the logo image.
    pub logo_uri: LogoUri,
    /// Free labels in their given order; duplicates are kept.
    pub tags: Tags,
    /// Further facts such as `website`.
    pub extensions: Extensions,
}
