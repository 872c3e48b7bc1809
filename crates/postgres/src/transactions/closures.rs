//! Work on the database as a closure, so that it can be done once more as a whole.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::pool::Shared;
use crate::transactions::retry::{ATTEMPTS_MAX, Repeat, Tries, Why};
use crate::transactions::transaction::PgTransaction;
use crate::{PgError, PgPool, TxOptions};

/// The transaction of a closure. It ends with the closure: committed if that returned `Ok`,
/// otherwise undone. Everything that [`PgTransaction`] offers works on it.
#[derive(Debug)]
pub struct PgTx {
    /// Taken by `drop` only.
    inner: Option<PgTransaction>,
    back: Back,
}

/// Where the transaction of a closure is found after its end.
type Back = Arc<Mutex<Option<PgTransaction>>>;

impl PgPool {
    /// Reads in one snapshot: all statements see the same state of the database, and none can write.
    ///
    /// Done again as a whole when there was no connection or it was lost, because nothing was given
    /// out yet. So the closure must not have effects of its own; every try calls it anew.
    ///
    /// ```no_run
    /// # async fn example(postgres: &forebay_postgres::PgPool) -> Result<(), forebay_postgres::PgError> {
    /// use forebay_postgres::Sql;
    ///
    /// const TOKENS: Sql = Sql::new("SELECT tokens", "SELECT count(*) FROM tokens");
    /// const POOLS: Sql = Sql::new("SELECT pools", "SELECT count(*) FROM pools");
    ///
    /// let (tokens, pools): (i64, i64) = postgres
    ///     .read(|mut snapshot| async move {
    ///         let tokens = snapshot.query_one(&TOKENS, &[]).await?.try_get(0)?;
    ///         let pools = snapshot.query_one(&POOLS, &[]).await?.try_get(0)?;
    ///         Ok::<_, forebay_postgres::PgError>((tokens, pools))
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What the closure returns, and any [`PgError`] of opening the snapshot.
    #[track_caller]
    pub fn read<'a, T, E, F, R>(&'a self, work: F) -> impl Future<Output = Result<T, E>> + Send + 'a
    where
        F: FnMut(PgTx) -> R + Send + 'a,
        R: Future<Output = Result<T, E>> + Send + 'a,
        T: Send + 'a,
        E: From<PgError> + Send + 'a,
    {
        repeat(self.shared(), Location::caller(), TxOptions::SNAPSHOT, Repeat::Undone, work)
    }

    /// Runs a transaction and commits it if the closure returns `Ok`.
    ///
    /// Done again as a whole when it ran into a concurrent one (SQLSTATE 40001, 40P01) or lost its
    /// connection before the commit was sent, because then the server has undone it. So the closure
    /// must not have effects outside the transaction; every try calls it anew. What it needs for
    /// that it borrows or clones:
    ///
    /// ```no_run
    /// # async fn example(postgres: &forebay_postgres::PgPool, mint: &str) -> Result<(), forebay_postgres::PgError> {
    /// use forebay_postgres::{Sql, TxOptions};
    ///
    /// const RENAME: Sql = Sql::new("UPDATE tokens", "UPDATE tokens SET name = $2 WHERE mint = $1");
    ///
    /// let renamed = postgres
    ///     .tx(TxOptions::SERIALIZABLE, |mut tx| async move {
    ///         tx.execute(&RENAME, &[&mint, &"forebay"]).await
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What the closure returns; [`PgError::UnknownOutcome`] when the commit was sent and no answer
    /// came; after any other [`PgError`] nothing was written.
    #[track_caller]
    pub fn tx<'a, T, E, F, R>(
        &'a self,
        options: TxOptions,
        work: F,
    ) -> impl Future<Output = Result<T, E>> + Send + 'a
    where
        F: FnMut(PgTx) -> R + Send + 'a,
        R: Future<Output = Result<T, E>> + Send + 'a,
        T: Send + 'a,
        E: From<PgError> + Send + 'a,
    {
        repeat(self.shared(), Location::caller(), options, Repeat::Undone, work)
    }

    /// As [`PgPool::tx`], for work that has one effect however often it is done, such as an insert
    /// with `ON CONFLICT DO NOTHING`. That is the caller's promise.
    ///
    /// Done again also when the answer to the commit was lost, so an outcome is unknown only when
    /// time or tries run out.
    ///
    /// ```no_run
    /// # async fn example(postgres: &forebay_postgres::PgPool, id: uuid::Uuid) -> Result<(), forebay_postgres::PgError> {
    /// use forebay_postgres::{Sql, TxOptions};
    ///
    /// const MARK: Sql =
    ///     Sql::new("INSERT seen", "INSERT INTO seen (id) VALUES ($1) ON CONFLICT DO NOTHING");
    ///
    /// postgres
    ///     .write_idempotent(TxOptions::default(), |mut tx| async move {
    ///         tx.execute(&MARK, &[&id]).await
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`PgPool::tx`].
    #[track_caller]
    pub fn write_idempotent<'a, T, E, F, R>(
        &'a self,
        options: TxOptions,
        work: F,
    ) -> impl Future<Output = Result<T, E>> + Send + 'a
    where
        F: FnMut(PgTx) -> R + Send + 'a,
        R: Future<Output = Result<T, E>> + Send + 'a,
        T: Send + 'a,
        E: From<PgError> + Send + 'a,
    {
        repeat(self.shared(), Location::caller(), options, Repeat::Always, work)
    }
}

/// A try that failed.
struct Failed<E> {
    error: E,
    why: Option<Why>,
}

impl<E: From<PgError>> From<PgError> for Failed<E> {
    fn from(error: PgError) -> Self {
        Self { why: Why::of(&error), error: error.into() }
    }
}

async fn repeat<T, E, F, R>(
    shared: &Arc<Shared>,
    caller: &'static Location<'static>,
    options: TxOptions,
    when: Repeat,
    mut work: F,
) -> Result<T, E>
where
    F: FnMut(PgTx) -> R,
    R: Future<Output = Result<T, E>>,
    E: From<PgError>,
{
    let mut tries = Tries::new(shared, ATTEMPTS_MAX);
    loop {
        match attempt(shared, caller, options, &mut work).await {
            Ok(value) => {
                tries.succeeded();
                return Ok(value);
            }
            Err(Failed { error, why }) => {
                let why = why.filter(|why| tries.allows(when, *why));
                let Some(why) = why else {
                    return Err(error);
                };
                if !tries.again(why).await {
                    return Err(error);
                }
            }
        }
    }
}

async fn attempt<T, E, F, R>(
    shared: &Arc<Shared>,
    caller: &'static Location<'static>,
    options: TxOptions,
    work: &mut F,
) -> Result<T, Failed<E>>
where
    F: FnMut(PgTx) -> R,
    R: Future<Output = Result<T, E>>,
    E: From<PgError>,
{
    // On the heap, or every caller's future would have the size of opening a connection.
    let tx = Box::pin(PgTransaction::begin(shared, caller, options)).await?;
    let back = Back::default();
    let outcome = work(PgTx { inner: Some(tx), back: Arc::clone(&back) }).await;
    let tx = back.lock().take();
    // A closure that keeps its transaction has not ended it, so nothing may come of it.
    let tx = tx.ok_or(PgError::TransactionFailed)?;
    // A write in a snapshot is refused by whatever server.
    let why = tx.why().filter(|why| !(options.read_only && *why == Why::Demoted));
    match outcome {
        // Dropped, it is undone by the janitor, and nobody waits for that.
        Err(error) => Err(Failed { error, why }),
        Ok(value) => match tx.commit().await {
            Ok(()) => Ok(value),
            // Everything was read already, and there is nothing to undo.
            Err(_) if options.read_only && why.is_none() => Ok(value),
            // The closure has kept the error of a statement to itself.
            Err(PgError::TransactionFailed) => {
                Err(Failed { error: PgError::TransactionFailed.into(), why })
            }
            Err(error) => Err(error.into()),
        },
    }
}

impl Deref for PgTx {
    type Target = PgTransaction;

    fn deref(&self) -> &PgTransaction {
        self.inner.as_ref().expect("only drop takes it")
    }
}

impl DerefMut for PgTx {
    fn deref_mut(&mut self) -> &mut PgTransaction {
        self.inner.as_mut().expect("only drop takes it")
    }
}

impl Drop for PgTx {
    fn drop(&mut self) {
        *self.back.lock() = self.inner.take();
    }
}
