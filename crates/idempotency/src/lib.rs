//! Request ids: the same request gets the same reply, once.
//!
//! A caller that got no answer cannot know whether its write happened. It
//! sends the request again with the same request id, and this crate gives it
//! the reply of the first time instead of writing twice.
//!
//! # Guarantees
//! - The key, the writes and the reply commit in one transaction, the
//!   caller's: either all of them exist or none does.
//! - Of several requests with one id at the same time, one runs; the others
//!   wait for it and replay its reply. If it fails, the next one runs.
//! - An id that comes back with another request is refused ([`Error::Mismatch`]).
//! - Only successful replies are kept. A request that failed may be tried again.
//!
//! # Limits
//! A key is kept for [`RETENTION`]; after a sweeper removed it
//! ([`EXPIRED`]), the same id counts as new. A waiting duplicate holds a connection, no longer
//! than the statement timeout.
//!
//! ```no_run
//! # async fn example(postgres: &forebay_postgres::PgPool, id: uuid::Uuid, request: &[u8])
//! # -> Result<bytes::Bytes, forebay_idempotency::Error> {
//! use forebay_idempotency::{Begun, RequestKey, begin, finish};
//!
//! let key = RequestKey::new("forebay.token.v1.TokenService/CreateToken", id, request);
//! let mut tx = postgres.begin().await?;
//! let reply = match begin(&mut tx, &key).await? {
//!     Begun::Replay(reply) => reply,
//!     Begun::New => {
//!         let reply = bytes::Bytes::from_static(b"the encoded reply");
//!         finish(&mut tx, &key, &reply).await?;
//!         reply
//!     }
//! };
//! tx.commit().await?;
//! # Ok(reply)
//! # }
//! ```

use std::time::Duration;

use bytes::Bytes;
use forebay_postgres::{PgError, PgTransaction, Sql, Sweep};

pub use error::Error;
pub use key::RequestKey;

mod error;
mod key;

/// How long a reply is kept. A client that retries for longer than a day has lost track anyway.
pub const RETENTION: Duration = Duration::from_secs(24 * 3600);

/// What [`begin`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// The request is new: do its work, then call [`finish`].
    New,
    /// The request was done before: this is the reply of that time.
    Replay(Bytes),
}

/// Claims `key` for this transaction, or finds the reply that was given before.
///
/// Call it before the first write. While another transaction holds the same
/// key, this waits for it to end.
///
/// # Errors
/// [`Error::Mismatch`] when the id belongs to another request; [`Error::Store`] when Postgres fails.
pub async fn begin(tx: &mut PgTransaction, key: &RequestKey) -> Result<Begun, Error> {
    // The conflicting row is locked and returned in either case. `DO NOTHING`
    // would return no row, and a second statement could miss one that has just
    // been deleted.
    const CLAIM: Sql = Sql::new(
        "INSERT idempotency_keys",
        "INSERT INTO idempotency_keys AS kept (method, request_id, fingerprint) \
         VALUES ($1, $2, $3) \
         ON CONFLICT (method, request_id) DO UPDATE SET fingerprint = kept.fingerprint \
         RETURNING fingerprint, reply",
    );
    let fingerprint = key.fingerprint();
    let row = tx.query_one(&CLAIM, &[&key.method(), &key.request_id(), &fingerprint]).await?;
    if row.try_get::<_, &[u8]>(0).map_err(PgError::from)? != fingerprint {
        return Err(Error::Mismatch);
    }
    let reply: Option<&[u8]> = row.try_get(1).map_err(PgError::from)?;
    Ok(reply.map_or(Begun::New, |reply| Begun::Replay(Bytes::copy_from_slice(reply))))
}

/// Keeps the reply of the request that [`begin`] called new. Commit the transaction after it.
///
/// # Errors
/// [`Error::Store`] when Postgres fails, or when this transaction has not claimed the key.
pub async fn finish(tx: &mut PgTransaction, key: &RequestKey, reply: &[u8]) -> Result<(), Error> {
    const KEEP: Sql = Sql::new(
        "UPDATE idempotency_keys",
        "UPDATE idempotency_keys SET reply = $3 \
         WHERE method = $1 AND request_id = $2 AND reply IS NULL RETURNING true",
    );
    // A claim that is not there is no row, and that is an error.
    tx.query_one(&KEEP, &[&key.method(), &key.request_id(), &reply]).await?;
    Ok(())
}

/// The keys that have expired, for the [`Sweeper`](forebay_postgres::Sweeper) of a service.
pub const EXPIRED: Sweep = Sweep {
    what: "request ids",
    retention: RETENTION,
    delete: Sql::new(
        "DELETE idempotency_keys",
        "DELETE FROM idempotency_keys WHERE (method, request_id) IN ( \
             SELECT method, request_id FROM idempotency_keys \
             WHERE created_at < now() - make_interval(secs => $1) \
             LIMIT $2 FOR UPDATE SKIP LOCKED)",
    ),
};

#[cfg(test)]
mod tests;
