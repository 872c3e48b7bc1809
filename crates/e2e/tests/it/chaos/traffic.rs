//! Callers that read and write until they are stopped, and check every answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use forebay_e2e::{PoolClient, SOL, System, TokenClient};
use forebay_proto::pool::v1::{ListPoolsRequest, PoolFilter};
use forebay_proto::token::v1::{
    BatchGetTokensRequest, ListTokensRequest, LookupTokenRequest, Token, TokenFilter,
    UpdateTokenRequest,
};
use parking_lot::Mutex;
use prost_types::FieldMask;
use tokio::task::JoinHandle;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Callers at once.
pub(super) const CALLERS: usize = 16;
/// How often a write is repeated before it counts as lost.
const WRITE_ATTEMPTS_MAX: u32 = 2000;

/// What happened to all the calls.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Reads that were answered, rightly: a wrong row fails the test.
    pub(super) reads: u64,
    /// Reads that failed.
    pub(super) reads_failed: u64,
    /// Writes that were answered.
    pub(super) writes: u64,
    /// Times a write had to be sent again under its request id.
    pub(super) writes_repeated: u64,
    /// Failures of either that were not UNAVAILABLE.
    pub(super) other_failures: u64,
    /// What callers were told, and how often.
    pub(super) told: BTreeMap<String, u64>,
}

impl Tally {
    /// Whether nobody saw an error.
    pub(super) fn is_clean(&self) -> bool {
        self.reads_failed + self.writes_repeated + self.other_failures == 0
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { reads, reads_failed, writes, writes_repeated, other_failures, told } = self;
        write!(
            f,
            "{reads} reads answered, {reads_failed} failed; {writes} writes answered, sent again \
             {writes_repeated} times; {other_failures} failures other than UNAVAILABLE"
        )?;
        told.iter().try_for_each(|(what, times)| write!(f, "; told {what} {times} times"))
    }
}

/// Callers at work.
pub(super) struct Traffic {
    shared: Arc<Shared>,
    callers: Vec<JoinHandle<anyhow::Result<()>>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    reads: AtomicU64,
    reads_failed: AtomicU64,
    writes: AtomicU64,
    writes_repeated: AtomicU64,
    other_failures: AtomicU64,
    told: Mutex<BTreeMap<String, u64>>,
}

impl Shared {
    fn failed(&self, status: &Status) {
        if status.code() != Code::Unavailable {
            self.other_failures.fetch_add(1, Ordering::Relaxed);
        }
        let details = status.get_error_details();
        let reason = details.error_info().map_or(status.message(), |info| &info.reason);
        *self.told.lock().entry(format!("{:?} {reason}", status.code())).or_default() += 1;
    }
}

impl Traffic {
    /// Sends the callers off.
    pub(super) async fn start(system: &System, sample: &[Token]) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut callers = Vec::new();
        for number in 0..CALLERS {
            let caller = Caller {
                tokens: system.token_client().await?,
                pools: system.pool_client().await?,
                sample: sample.to_vec(),
                number,
                shared: Arc::clone(&shared),
            };
            callers.push(tokio::spawn(caller.run()));
        }
        Ok(Self { shared, callers })
    }

    /// Waits until `count` further calls were answered.
    pub(super) async fn answer(&self, count: u64) {
        self.until(count, |shared| load(&shared.reads) + load(&shared.writes)).await;
    }

    /// Waits until `count` further calls were answered or failed.
    pub(super) async fn attempt(&self, count: u64) {
        self.until(count, |shared| {
            let answered = load(&shared.reads) + load(&shared.writes);
            answered + load(&shared.reads_failed) + load(&shared.writes_repeated)
        })
        .await;
    }

    /// Asks no more of the callers than to end what they have begun.
    pub(super) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Stops the callers; fails when one of them was given a wrong row.
    pub(super) async fn finish(self) -> anyhow::Result<Tally> {
        self.stop();
        for caller in self.callers {
            caller.await??;
        }
        Ok(Tally {
            reads: load(&self.shared.reads),
            reads_failed: load(&self.shared.reads_failed),
            writes: load(&self.shared.writes),
            writes_repeated: load(&self.shared.writes_repeated),
            other_failures: load(&self.shared.other_failures),
            told: std::mem::take(&mut *self.shared.told.lock()),
        })
    }

    async fn until(&self, count: u64, counted: impl Fn(&Shared) -> u64) {
        let goal = counted(&self.shared) + count;
        let mut poll = tokio::time::interval(Duration::from_millis(2));
        // A caller ends early only because of a wrong row, which `finish` reports.
        while counted(&self.shared) < goal && self.callers.iter().all(|call| !call.is_finished()) {
            poll.tick().await;
        }
    }
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

struct Caller {
    tokens: TokenClient,
    pools: PoolClient,
    sample: Vec<Token>,
    number: usize,
    shared: Arc<Shared>,
}

impl Caller {
    async fn run(mut self) -> anyhow::Result<()> {
        let mut round = self.number;
        while !self.shared.stop.load(Ordering::Relaxed) {
            let token = self.sample[round % self.sample.len()].clone();
            let outcome = match round % 5 {
                0 => find(&mut self.tokens, &token).await,
                1 => self.batch(round).await,
                2 => list_symbol(&mut self.tokens, &token.symbol).await,
                3 => list_pools(&mut self.pools).await,
                _ => self.rename(round).await,
            };
            self.count(outcome)?;
            round += CALLERS + 1;
        }
        Ok(())
    }

    fn count(&self, outcome: anyhow::Result<()>) -> anyhow::Result<()> {
        match outcome {
            Ok(()) => self.shared.reads.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                // Anything else is a wrong answer.
                let status = error.downcast::<Status>()?;
                self.shared.failed(&status);
                self.shared.reads_failed.fetch_add(1, Ordering::Relaxed)
            }
        };
        Ok(())
    }

    async fn batch(&mut self, round: usize) -> anyhow::Result<()> {
        let pick =
            |offset: usize| self.sample[(round + offset * 31) % self.sample.len()].id.clone();
        let ids: Vec<_> = (0..8).map(pick).collect();
        let request = BatchGetTokensRequest { ids: ids.clone(), ..Default::default() };
        let reply = self.tokens.batch_get_tokens(request).await?.into_inner();
        let found: Vec<_> = reply.tokens.iter().map(|token| token.id.clone()).collect();
        ensure!(found == ids, "asked for {ids:?}, got {found:?}");
        Ok(())
    }

    /// Renames the caller's own token and reads its own write.
    async fn rename(&mut self, round: usize) -> anyhow::Result<()> {
        let id = self.sample[self.sample.len() - 1 - self.number].id.clone();
        let name = format!("caller {} round {round}", self.number);
        let request = UpdateTokenRequest {
            token: Some(Token { id: id.clone(), name: name.clone(), ..Default::default() }),
            update_mask: Some(FieldMask { paths: vec!["name".to_owned()] }),
            request_id: uuid::Uuid::new_v4().to_string(),
        };
        let mut attempts = 1;
        while let Err(status) = self.tokens.update_token(request.clone()).await {
            ensure!(attempts < WRITE_ATTEMPTS_MAX, "the write is lost: {status:?}");
            self.shared.failed(&status);
            attempts += 1;
            self.shared.writes_repeated.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.shared.writes.fetch_add(1, Ordering::Relaxed);
        let get = forebay_proto::token::v1::GetTokenRequest { id };
        let read = self.tokens.get_token(get).await?.into_inner().token.context("the token")?;
        ensure!(read.name == name, "wrote {name:?}, read {:?}", read.name);
        Ok(())
    }
}

/// Looks the token up by its mint.
pub(super) async fn find(tokens: &mut TokenClient, token: &Token) -> anyhow::Result<()> {
    let request = LookupTokenRequest { mint: token.mint.clone() };
    let found = tokens.lookup_token(request).await?.into_inner().token.context("a token")?;
    ensure!(found.id == token.id && found.mint == token.mint, "asked {token:?}, got {found:?}");
    Ok(())
}

/// Gives the token another name, and does not look whether it has it then.
pub(super) async fn rename(tokens: &mut TokenClient, id: &str, name: String) -> anyhow::Result<()> {
    let request = UpdateTokenRequest {
        token: Some(Token { id: id.to_owned(), name, ..Default::default() }),
        update_mask: Some(FieldMask { paths: vec!["name".to_owned()] }),
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    tokens.update_token(request).await?;
    Ok(())
}

/// Lists tokens of a symbol. Callers change the table all the time, so no page of it stays cached.
pub(super) async fn list_symbol(tokens: &mut TokenClient, symbol: &str) -> anyhow::Result<()> {
    let filter = TokenFilter { symbol: symbol.to_owned(), ..Default::default() };
    let request = ListTokensRequest { page_size: 3, filter: Some(filter), ..Default::default() };
    let page = tokens.list_tokens(request).await?.into_inner();
    let all_match = page.tokens.iter().all(|token| token.symbol == symbol);
    ensure!(!page.tokens.is_empty() && all_match, "asked for {symbol:?}, got {page:?}");
    Ok(())
}

async fn list_pools(pools: &mut PoolClient) -> anyhow::Result<()> {
    let filter = PoolFilter { token_mint: SOL.to_owned(), ..Default::default() };
    let request = ListPoolsRequest { page_size: 5, filter: Some(filter), ..Default::default() };
    let page = pools.list_pools(request).await?.into_inner();
    let all_match = page.pools.iter().all(|pool| pool.base_mint == SOL || pool.quote_mint == SOL);
    ensure!(page.pools.len() == 5 && all_match, "asked for pools of SOL, got {page:?}");
    Ok(())
}
