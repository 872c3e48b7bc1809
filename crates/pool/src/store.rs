//! Every SQL statement about single pools.

use forebay_idempotency::RequestKey;
use forebay_model::{
    Curve, Decimals, Dex, FeeBps, Pool, PoolAddress, PoolFacts, PoolId, PoolName, TokenId, Version,
};
use forebay_postgres::{FromSql, PgPool, PgTransaction, Repetition, Row, Sql, ToSql};
use uuid::Uuid;

use crate::error::{Error, StoreError};
use crate::list::PageQuery;

// The fragments are macros, because `concat!` takes nothing else.
macro_rules! columns {
    () => {
        "p.id, p.pool_address, p.dex, b.mint AS base_mint, q.mint AS quote_mint, \
         p.base_token_id, p.quote_token_id, p.base_vault, p.quote_vault, p.lp_mint, \
         p.lp_decimals, p.curve, p.trade_fee_bps, p.owner_fee_bps, p.name, p.version, \
         p.created_at, p.updated_at"
    };
}

macro_rules! joins {
    () => {
        "JOIN tokens b ON b.id = p.base_token_id JOIN tokens q ON q.id = p.quote_token_id"
    };
}

/// The columns of a pool `p` and the mints of its tokens `b` and `q`; they are read by name.
pub(crate) const COLUMNS: &str = columns!();

/// The tokens of a pool `p`.
pub(crate) const JOINS: &str = joins!();

static BY_IDS: Sql = Sql::new(
    "SELECT pools",
    concat!("SELECT ", columns!(), " FROM pools p ", joins!(), " WHERE p.id = ANY($1)"),
);

static BY_ADDRESSES: Sql = Sql::new(
    "SELECT pools",
    concat!("SELECT ", columns!(), " FROM pools p ", joins!(), " WHERE p.pool_address = ANY($1)"),
);

static LOCK: Sql = Sql::new(
    "SELECT pools",
    concat!("SELECT ", columns!(), " FROM pools p ", joins!(), " WHERE p.id = $1 FOR UPDATE OF p"),
);

static INSERT: Sql = Sql::new(
    "INSERT pools",
    "INSERT INTO pools (id, pool_address, dex, base_token_id, quote_token_id, base_vault, \
     quote_vault, lp_mint, lp_decimals, curve, trade_fee_bps, owner_fee_bps, name) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
     RETURNING version, created_at, updated_at",
);

static UPDATE: Sql = Sql::new(
    "UPDATE pools",
    "UPDATE pools SET base_vault = $2, quote_vault = $3, lp_mint = $4, lp_decimals = $5, \
     curve = $6, trade_fee_bps = $7, owner_fee_bps = $8, name = $9 \
     WHERE id = $1 RETURNING version, created_at, updated_at",
);

static DELETE: Sql = Sql::new("DELETE pools", "DELETE FROM pools WHERE id = $1");

// The deletion has drawn this version for its tombstone.
static TOMBSTONE: Sql = Sql::new("SELECT row_version", "SELECT currval('row_version')");

/// Pools in Postgres.
#[derive(Debug, Clone)]
pub(crate) struct PoolStore {
    postgres: PgPool,
}

impl PoolStore {
    pub(crate) fn new(postgres: PgPool) -> Self {
        Self { postgres }
    }

    /// The pools of these ids that exist, in any order.
    pub(crate) async fn by_ids(&self, ids: &[PoolId]) -> Result<Vec<Pool>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(PoolId::uuid).collect();
        self.select("read pools by id", &BY_IDS, &[&ids]).await
    }

    /// The pools of these addresses that exist, in any order.
    pub(crate) async fn by_addresses(
        &self,
        addresses: &[PoolAddress],
    ) -> Result<Vec<Pool>, StoreError> {
        let addresses: Vec<String> = addresses.iter().map(PoolAddress::to_string).collect();
        self.select("read pools by address", &BY_ADDRESSES, &[&addresses]).await
    }

    /// The rows of a page and, if there is one, the row after it.
    pub(crate) async fn list(&self, query: &PageQuery) -> Result<Vec<Pool>, StoreError> {
        let (sql, parameters) = query.statement();
        self.select("list pools", &sql, &parameters).await
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
    ) -> Result<Vec<Pool>, StoreError> {
        let rows = self.postgres.query(sql, parameters).await.map_err(StoreError::query(action))?;
        rows.iter().map(pool).collect()
    }
}

/// The pool of this id, locked until the transaction ends.
pub(crate) async fn lock(tx: &mut PgTransaction, id: PoolId) -> Result<Option<Pool>, StoreError> {
    let row = tx.query_opt(&LOCK, &[&id.uuid()]).await.map_err(StoreError::query("lock a pool"))?;
    row.as_ref().map(pool).transpose()
}

/// Creates `pool`; its version and times are the database's to say.
pub(crate) async fn insert(tx: &mut PgTransaction, pool: Pool) -> Result<Pool, StoreError> {
    let facts = Bound::from(&pool.facts);
    let row = tx
        .query_one(
            &INSERT,
            &[
                &pool.id.uuid(),
                &pool.pool_address.to_string(),
                &pool.dex.as_str(),
                &pool.base_token_id.uuid(),
                &pool.quote_token_id.uuid(),
                &facts.base_vault,
                &facts.quote_vault,
                &facts.lp_mint,
                &facts.lp_decimals,
                &facts.curve,
                &facts.trade_fee,
                &facts.owner_fee,
                &facts.name,
            ],
        )
        .await
        .map_err(StoreError::query("insert a pool"))?;
    stamped(&row, pool)
}

/// Stores the facts of `pool`, which is locked.
pub(crate) async fn update(tx: &mut PgTransaction, pool: Pool) -> Result<Pool, StoreError> {
    let facts = Bound::from(&pool.facts);
    let row = tx
        .query_one(
            &UPDATE,
            &[
                &pool.id.uuid(),
                &facts.base_vault,
                &facts.quote_vault,
                &facts.lp_mint,
                &facts.lp_decimals,
                &facts.curve,
                &facts.trade_fee,
                &facts.owner_fee,
                &facts.name,
            ],
        )
        .await
        .map_err(StoreError::query("update a pool"))?;
    stamped(&row, pool)
}

/// Deletes a pool that is locked; the version is the one of its tombstone.
pub(crate) async fn delete(tx: &mut PgTransaction, id: PoolId) -> Result<Version, StoreError> {
    let action = "delete a pool";
    tx.execute(&DELETE, &[&id.uuid()]).await.map_err(StoreError::query(action))?;
    let row = tx.query_one(&TOMBSTONE, &[]).await.map_err(StoreError::query(action))?;
    Ok(Version::new(column(&row, "currval")?))
}

/// The facts of a pool in the types of their columns.
struct Bound<'f> {
    base_vault: String,
    quote_vault: String,
    lp_mint: String,
    lp_decimals: i16,
    curve: &'static str,
    trade_fee: i32,
    owner_fee: i32,
    name: &'f str,
}

impl<'f> From<&'f PoolFacts> for Bound<'f> {
    fn from(facts: &'f PoolFacts) -> Self {
        Self {
            base_vault: facts.base_vault.to_string(),
            quote_vault: facts.quote_vault.to_string(),
            lp_mint: facts.lp_mint.to_string(),
            lp_decimals: facts.lp_decimals.get().into(),
            curve: facts.curve.as_str(),
            trade_fee: facts.trade_fee.get().into(),
            owner_fee: facts.owner_fee.get().into(),
            name: facts.name.as_str(),
        }
    }
}

/// The pool that was written, with what the database has added to it.
fn stamped(row: &Row, pool: Pool) -> Result<Pool, StoreError> {
    Ok(Pool {
        version: Version::new(column(row, "version")?),
        created_at: column(row, "created_at")?,
        updated_at: column(row, "updated_at")?,
        ..pool
    })
}

fn pool(row: &Row) -> Result<Pool, StoreError> {
    let facts = PoolFacts {
        base_vault: parsed(row, "base_vault", str::parse)?,
        quote_vault: parsed(row, "quote_vault", str::parse)?,
        lp_mint: parsed(row, "lp_mint", str::parse)?,
        lp_decimals: parsed(row, "lp_decimals", |n: i16| u8::try_from(n).map(Decimals::new))?,
        curve: parsed(row, "curve", str::parse::<Curve>)?,
        trade_fee: parsed(row, "trade_fee_bps", fee)?,
        owner_fee: parsed(row, "owner_fee_bps", fee)?,
        name: parsed(row, "name", |text: &str| PoolName::new(text))?,
    };
    Ok(Pool {
        id: PoolId::from_uuid(column(row, "id")?),
        pool_address: parsed(row, "pool_address", str::parse)?,
        dex: parsed(row, "dex", |text: &str| Dex::new(text))?,
        base_mint: parsed(row, "base_mint", str::parse)?,
        quote_mint: parsed(row, "quote_mint", str::parse)?,
        base_token_id: TokenId::from_uuid(column(row, "base_token_id")?),
        quote_token_id: TokenId::from_uuid(column(row, "quote_token_id")?),
        facts,
        version: Version::new(column(row, "version")?),
        created_at: column(row, "created_at")?,
        updated_at: column(row, "updated_at")?,
    })
}

fn fee(bps: i32) -> Result<FeeBps, ()> {
    let bps = u32::try_from(bps).map_err(|_| ())?;
    FeeBps::try_from(bps).map_err(|_| ())
}

/// A column as a value. Plain SQL can write what this service would refuse; such a row must not
/// go unnoticed.
fn parsed<'r, C: FromSql<'r>, T, E>(
    row: &'r Row,
    name: &'static str,
    parse: impl FnOnce(C) -> Result<T, E>,
) -> Result<T, StoreError> {
    let value = column(row, name)?;
    match parse(value) {
        Ok(value) => Ok(value),
        Err(_) => Err(StoreError::Corrupt { id: column(row, "id")?, column: name }),
    }
}

fn column<'r, T: FromSql<'r>>(row: &'r Row, name: &'static str) -> Result<T, StoreError> {
    row.try_get(name).map_err(|source| StoreError::Column { name, source: source.into() })
}
