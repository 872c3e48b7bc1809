//! The task that sends batches, one after the other, until nobody waits.
//!
//! It is nobody's caller: a caller that goes away takes no batch with it.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use forebay_pooling::Deadline;
use futures_util::FutureExt;
use tokio_postgres::Row;
use tracing::Instrument;

use super::queue::{Answer, Batch};
use super::{Inner, PointKey};
use crate::PgError;

/// Starts one; the queue has counted it already.
pub(super) fn spawn<K: PointKey, V: Clone + Send + 'static>(inner: &Arc<Inner<K, V>>) {
    let runner = Runner(Some(Arc::clone(inner)));
    inner.postgres.runtime().spawn(runner.run());
}

/// Lives until the queue is empty.
struct Runner<K: PointKey, V: Clone + Send + 'static>(Option<Arc<Inner<K, V>>>);

impl<K: PointKey, V: Clone + Send + 'static> Runner<K, V> {
    async fn run(mut self) {
        let inner = Arc::clone(self.0.as_ref().expect("taken at the end only"));
        loop {
            // The lock is free again before the batch is sent.
            let next = inner.queue.lock().next();
            let Some(batch) = next else {
                // The queue counted us out, under the lock under which it was empty.
                self.0 = None;
                return;
            };
            // A panic in the conversion of a row ends its batch, not those behind it.
            if AssertUnwindSafe(inner.send(batch)).catch_unwind().await.is_err() {
                tracing::error!(db.query.summary = inner.sql.summary(), "reading a row panicked");
            }
        }
    }
}

impl<K: PointKey, V: Clone + Send + 'static> Drop for Runner<K, V> {
    /// The runtime ends, and no other task will send what waits.
    fn drop(&mut self) {
        let Some(inner) = self.0.take() else {
            return;
        };
        let stranded = inner.queue.lock().end();
        drop(stranded);
    }
}

impl<K: PointKey, V: Clone + Send + 'static> Inner<K, V> {
    async fn send(&self, mut batch: Batch<K, V>) {
        let (deadline, span) = (batch.deadline, batch.span.clone());
        let outcome = self.query(&batch, deadline).instrument(span).await;
        match outcome {
            Err(error) => answer_all(batch, &Err(error)),
            Ok(rows) => match self.answers(&rows) {
                Err(error) => answer_all(batch, &Err(error)),
                Ok(answers) => {
                    for (key, answer) in answers {
                        if let Some(waiters) = batch.take(&key) {
                            waiters.answer(&answer);
                        }
                    }
                    answer_all(batch, &Ok(None));
                }
            },
        }
    }

    async fn query(&self, batch: &Batch<K, V>, deadline: Deadline) -> Result<Vec<Row>, PgError> {
        let keys = batch.keys();
        self.metrics.departs(keys.len());
        deadline.scope(self.postgres.query(&self.sql, &[&keys])).await
    }

    /// What the rows say about the keys that have one.
    fn answers(&self, rows: &[Row]) -> Result<HashMap<K, Answer<V>>, PgError> {
        let mut answers = HashMap::with_capacity(rows.len());
        for row in rows {
            // Without its key a row cannot be given to anyone.
            let key: K = row.try_get(0)?;
            let answer = if answers.contains_key(&key) {
                Err(PgError::RowCount { rows: 2, expected: "one or none" })
            } else {
                (self.value)(row).map(Some)
            };
            answers.insert(key, answer);
        }
        Ok(answers)
    }
}

fn answer_all<K: PointKey, V: Clone + Send + 'static>(batch: Batch<K, V>, answer: &Answer<V>) {
    for waiters in batch.into_waiters() {
        waiters.answer(answer);
    }
}
