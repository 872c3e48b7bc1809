//! Every SQL statement about single tokens.

use forebay_idempotency::RequestKey;
use forebay_model::{Decimals, Mint, Symbol, Token, TokenFacts, TokenId, TokenName, Version};
use forebay_postgres::{PgPool, PgTransaction, Repetition, Row, Sql, ToSql};
use serde_json::Value;
use uuid::Uuid;

use crate::convert::{metadata_from_json, metadata_to_json};
use crate::error::{Error, StoreError};
use crate::list::PageQuery;

// A macro, because `concat!` takes nothing else.
macro_rules! columns {
    () => {
        "id, mint, symbol, name, decimals, metadata, version, created_at, updated_at"
    };
}

/// The columns of a token; they are read by name.
pub(crate) const COLUMNS: &str = columns!();

static BY_IDS: Sql =
    Sql::new("SELECT tokens", concat!("SELECT ", columns!(), " FROM tokens WHERE id = ANY($1)"));

static BY_MINTS: Sql =
    Sql::new("SELECT tokens", concat!("SELECT ", columns!(), " FROM tokens WHERE mint = ANY($1)"));

static LOCK: Sql = Sql::new(
    "SELECT tokens",
    concat!("SELECT ", columns!(), " FROM tokens WHERE id = $1 FOR UPDATE"),
);

static INSERT: Sql = Sql::new(
    "INSERT tokens",
    "INSERT INTO tokens (id, mint, symbol, name, decimals, metadata) \
     VALUES ($1, $2, $3, $4, $5, $6) RETURNING version, created_at, updated_at",
);

// Keys of the metadata that are not ours stay as they are.
static UPDATE: Sql = Sql::new(
    "UPDATE tokens",
    "UPDATE tokens SET symbol = $2, name = $3, decimals = $4, \
     metadata = (metadata - 'logo_uri' - 'tags' - 'extensions') || $5 \
     WHERE id = $1 RETURNING version, created_at, updated_at",
);

static DELETE: Sql = Sql::new("DELETE tokens", "DELETE FROM tokens WHERE id = $1");

// The deletion has drawn this version for its tombstone.
static TOMBSTONE: Sql = Sql::new("SELECT row_version", "SELECT currval('row_version')");

/// Tokens in Postgres.
#[derive(Debug, Clone)]
pub(crate) struct TokenStore {
    postgres: PgPool,
}

impl TokenStore {
    pub(crate) fn new(postgres: PgPool) -> Self {
        Self { postgres }
    }

    /// The tokens of these ids that exist, in any order.
    pub(crate) async fn by_ids(&self, ids: &[TokenId]) -> Result<Vec<Token>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(TokenId::uuid).collect();
        self.select("read tokens by id", &BY_IDS, &[&ids]).await
    }

    /// The tokens of these mints that exist, in any order.
    pub(crate) async fn by_mints(&self, mints: &[Mint]) -> Result<Vec<Token>, StoreError> {
        let mints: Vec<String> = mints.iter().map(Mint::to_string).collect();
        self.select("read tokens by mint", &BY_MINTS, &[&mints]).await
    }

    /// The rows of a page and, if there is one, the row after it.
    pub(crate) async fn list(&self, query: &PageQuery) -> Result<Vec<Token>, StoreError> {
        let (sql, parameters) = query.statement();
        self.select("list tokens", &sql, &parameters).await
    }

    /// Does `work` again where that is safe: a request with an id has one effect however often
    /// it is done, one without only what the database has undone.
    pub(crate) async fn repeat<T, R>(
        &self,
        request: Option<&RequestKey>,
        work: impl FnMut() -> R,
    ) -> Result<T, Error>
    where
        R: Future<Output = Result<T, Error>>,
    {
        let idempotent = request.is_some();
        let repetition = if idempotent { Repetition::Idempotent } else { Repetition::Undone };
        self.postgres.repeat(repetition, Error::postgres, work).await
    }

    /// Begins a transaction.
    pub(crate) async fn begin(&self) -> Result<PgTransaction, StoreError> {
        self.postgres.begin().await.map_err(StoreError::query("begin a transaction"))
    }

    async fn select(
        &self,
        action: &'static str,
        sql: &Sql,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Token>, StoreError> {
        let rows = self.postgres.query(sql, parameters).await.map_err(StoreError::query(action))?;
        rows.iter().map(token).collect()
    }
}

/// The token of this id, locked until the transaction ends.
pub(crate) async fn lock(tx: &mut PgTransaction, id: TokenId) -> Result<Option<Token>, StoreError> {
    let row =
        tx.query_opt(&LOCK, &[&id.uuid()]).await.map_err(StoreError::query("lock a token"))?;
    row.as_ref().map(token).transpose()
}

/// Creates a token.
pub(crate) async fn insert(
    tx: &mut PgTransaction,
    id: TokenId,
    mint: Mint,
    facts: TokenFacts,
) -> Result<Token, StoreError> {
    let decimals = i16::from(facts.decimals.get());
    let row = tx
        .query_one(
            &INSERT,
            &[
                &id.uuid(),
                &mint.to_string(),
                &facts.symbol.as_str(),
                &facts.name.as_str(),
                &decimals,
                &metadata_to_json(&facts),
            ],
        )
        .await
        .map_err(StoreError::query("insert a token"))?;
    stamped(&row, id, mint, facts)
}

/// Replaces the facts of a token that is locked.
pub(crate) async fn update(
    tx: &mut PgTransaction,
    id: TokenId,
    mint: Mint,
    facts: TokenFacts,
) -> Result<Token, StoreError> {
    let decimals = i16::from(facts.decimals.get());
    let row = tx
        .query_one(
            &UPDATE,
            &[
                &id.uuid(),
                &facts.symbol.as_str(),
                &facts.name.as_str(),
                &decimals,
                &metadata_to_json(&facts),
            ],
        )
        .await
        .map_err(StoreError::query("update a token"))?;
    stamped(&row, id, mint, facts)
}

/// Deletes a token that is locked; the version is the one of its tombstone.
pub(crate) async fn delete(tx: &mut PgTransaction, id: TokenId) -> Result<Version, StoreError> {
    let action = "delete a token";
    tx.execute(&DELETE, &[&id.uuid()]).await.map_err(StoreError::query(action))?;
    let row = tx.query_one(&TOMBSTONE, &[]).await.map_err(StoreError::query(action))?;
    Ok(Version::new(column(&row, "currval")?))
}

/// The token that was written, with what the database has added to it.
fn stamped(row: &Row, id: TokenId, mint: Mint, facts: TokenFacts) -> Result<Token, StoreError> {
    Ok(Token {
        id,
        mint,
        facts,
        version: Version::new(column(row, "version")?),
        created_at: column(row, "created_at")?,
        updated_at: column(row, "updated_at")?,
    })
}

fn token(row: &Row) -> Result<Token, StoreError> {
    let id: Uuid = column(row, "id")?;
    // Plain SQL can write what this service would refuse; such a row must not go unnoticed.
    let corrupt = |column| StoreError::Corrupt { id, column };
    let mint: &str = column(row, "mint")?;
    let decimals: i16 = column(row, "decimals")?;
    let metadata: Value = column(row, "metadata")?;
    let (logo_uri, tags, extensions) = metadata_from_json(metadata).map_err(corrupt)?;
    let facts = TokenFacts {
        symbol: Symbol::new(column::<&str>(row, "symbol")?).map_err(|_| corrupt("symbol"))?,
        name: TokenName::new(column::<&str>(row, "name")?).map_err(|_| corrupt("name"))?,
        decimals: u8::try_from(decimals).map(Decimals::new).map_err(|_| corrupt("decimals"))?,
        logo_uri,
        tags,
        extensions,
    };
    let mint = mint.parse().map_err(|_| corrupt("mint"))?;
    stamped(row, TokenId::from_uuid(id), mint, facts)
}

fn column<'r, T: forebay_postgres::FromSql<'r>>(
    row: &'r Row,
    name: &'static str,
) -> Result<T, StoreError> {
    row.try_get(name).map_err(|source| StoreError::Column { name, source: source.into() })
}
