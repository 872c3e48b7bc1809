//! A row that is read when it hurts: while it changes, and then when the change must be seen.
//!
//! The other rows are read all the time, so an entry that came too late into a memory is soon
//! replaced by the next read's. Here there is no next read before the bound is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use forebay_e2e::TokenClient;
use forebay_postgres::PgPool;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::ledger::{BOUND, Ledger, Read};
use crate::load::{UPDATE, lookup, mint, write};

/// Until every replica has heard of a change, normally.
const HEARD: Duration = Duration::from_millis(400);
/// From the reads, which load the row, to the change: it is to come while a load is late.
const STRUCK: Duration = Duration::from_millis(50);
/// Beyond the bound, so that whoever is late by a little is on the safe side.
const BEYOND: Duration = Duration::from_millis(50);

pub(crate) struct Ambush {
    pub(crate) clients: Vec<TokenClient>,
    pub(crate) postgres: PgPool,
    pub(crate) row: usize,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) refused: Arc<AtomicU64>,
    pub(crate) stop: Arc<AtomicBool>,
}

impl Ambush {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut round = 0;
        while !self.stop.load(Relaxed) {
            round += 1;
            // Nobody has the row now.
            write(&self.postgres, &self.ledger, self.row, &UPDATE, round).await?;
            tokio::time::sleep(HEARD).await;
            let change = async {
                tokio::time::sleep(STRUCK).await;
                write(&self.postgres, &self.ledger, self.row, &UPDATE, round).await?;
                tokio::time::sleep(BOUND + BEYOND).await;
                anyhow::Ok(())
            };
            let ((), changed) = tokio::join!(self.read(), change);
            changed?;
            self.read().await;
        }
        Ok(())
    }

    /// Reads the row through every replica.
    async fn read(&self) {
        let mint = mint(self.row);
        let reads = self.clients.iter().enumerate().map(|(replica, client)| {
            let (mut client, mint) = (client.clone(), &mint);
            async move {
                let began_at = Instant::now();
                match lookup(&mut client, mint).await {
                    Ok(returned) => {
                        let read = Read {
                            replica,
                            began_at,
                            ended_at: Instant::now(),
                            returned,
                            seen: None,
                        };
                        self.ledger.read(self.row, read);
                    }
                    Err(_refused) => drop(self.refused.fetch_add(1, Relaxed)),
                }
            }
        });
        join_all(reads).await;
    }
}
