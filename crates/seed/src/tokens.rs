//! A token as its row.

use forebay_postgres::types::{Json, ToSql, Type};
use uuid::Uuid;

use crate::source::{SeedMetadata, SeedToken};

pub(crate) const STAGE: &str = "CREATE TEMP TABLE staged_tokens (
    id uuid, mint text COLLATE \"C\", symbol text, name text, decimals smallint, metadata jsonb
) ON COMMIT DROP";

pub(crate) const COPY: &str =
    "COPY staged_tokens (id, mint, symbol, name, decimals, metadata) FROM STDIN (FORMAT binary)";

pub(crate) const TYPES: [Type; 6] =
    [Type::UUID, Type::TEXT, Type::TEXT, Type::TEXT, Type::INT2, Type::JSONB];

/// Writes only what differs: an update that changes nothing would still be a new version.
pub(crate) const RESET: &str = "UPDATE tokens AS t
    SET symbol = s.symbol, name = s.name, decimals = s.decimals, metadata = s.metadata
    FROM staged_tokens AS s
    WHERE t.mint = s.mint
        AND (t.symbol, t.name, t.decimals, t.metadata)
            IS DISTINCT FROM (s.symbol, s.name, s.decimals, s.metadata)";

/// Rows that exist are left out before the insert, so that they use up no version;
/// the conflict clause is for one that appears meanwhile.
pub(crate) const INSERT: &str = "INSERT INTO tokens (id, mint, symbol, name, decimals, metadata)
    SELECT s.id, s.mint, s.symbol, s.name, s.decimals, s.metadata FROM staged_tokens AS s
    WHERE NOT EXISTS (SELECT FROM tokens AS t WHERE t.mint = s.mint)
    ORDER BY s.mint
    ON CONFLICT (mint) DO NOTHING";

/// The columns of one row, owned, because a copy borrows them.
pub(crate) struct TokenRow<'a> {
    id: Uuid,
    token: &'a SeedToken,
    decimals: i16,
    metadata: Json<&'a SeedMetadata>,
}

impl<'a> TokenRow<'a> {
    pub(crate) fn new(id: Uuid, token: &'a SeedToken) -> Self {
        Self { id, token, decimals: token.decimals.into(), metadata: Json(&token.metadata) }
    }

    pub(crate) fn columns(&self) -> [&(dyn ToSql + Sync); 6] {
        let token = self.token;
        [&self.id, &token.mint, &token.symbol, &token.name, &self.decimals, &self.metadata]
    }
}
