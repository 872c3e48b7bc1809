//! Readers and writers: what they do is entered into the ledger.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Context as _;
use forebay_e2e::TokenClient;
use forebay_grpc::client::Session;
use forebay_postgres::{PgError, PgPool, Sql};
use forebay_proto::token::v1::{
    BatchGetTokensRequest, LookupTokenRequest, Token, UpdateTokenRequest,
};
use prost_types::FieldMask;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::ambush::Ambush;
use crate::fleet::REPLICAS;
use crate::ledger::{Ledger, Read};

/// Rows that are read and written.
pub(crate) const ROWS: usize = 400;
/// Rows that one call reads. A call costs as much as the reading of some dozen rows does.
const BATCH: usize = 100;
/// One call in so many reads a single row.
const SINGLE: usize = 8;
/// Readers of each replica.
const READERS: usize = 3;
/// Of those, readers who say what they have seen, and go from replica to replica.
const SESSIONS: usize = 1;
/// Writers. Each has rows of its own.
const WRITERS: usize = 4;
/// Rows that are read at the worst moments only.
const AMBUSHES: usize = 32;
/// Rows of each writer that are written often.
const HOT: usize = 4;
/// Time between two writes of a writer: the other rows stay as they are for two bounds and more, so
/// that what is too old is still so when it is read.
const WRITE_PAUSE: Duration = Duration::from_millis(6);
/// Times that a write waits for its row, each up to `lock_timeout`: a write whose connection carries
/// nothing holds it until the server ends that one.
const LOCK_WAITS_MAX: usize = 4;
/// A call that was not answered within this time failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

const INSERT: Sql = Sql::new(
    "INSERT tokens",
    "INSERT INTO tokens (id, mint, symbol, name, decimals) \
     VALUES (gen_random_uuid(), $1, 'HISTORY', $2, 6) RETURNING version",
);
pub(crate) const UPDATE: Sql =
    Sql::new("UPDATE tokens", "UPDATE tokens SET name = $2 WHERE mint = $1 RETURNING version");
const DELETE: Sql = Sql::new("DELETE tokens", "DELETE FROM tokens WHERE mint = $1");
const VERSION: Sql = Sql::new("SELECT row_version", "SELECT currval('row_version')");

/// What goes on until it is stopped.
pub(crate) struct Load {
    pub(crate) ledger: Arc<Ledger>,
    /// Calls that were answered with an error, or not in time.
    pub(crate) refused: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Load {
    /// Creates the rows and starts to read and write them.
    pub(crate) async fn start(clients: &[TokenClient], postgres: PgPool) -> anyhow::Result<Self> {
        let ledger = Arc::new(Ledger::new(ROWS + AMBUSHES));
        let (stop, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mints: Arc<[String]> = (0..ROWS).map(mint).collect();
        for row in 0..ROWS + AMBUSHES {
            write(&postgres, &ledger, row, &INSERT, 0).await?;
        }
        let mut tasks = JoinSet::new();
        for number in 0..REPLICAS * READERS {
            let replica = number % REPLICAS;
            let is_session = number < REPLICAS * SESSIONS;
            let reader = Reader {
                clients: clients.to_vec(),
                replica,
                session: is_session.then(Session::default),
                seen: vec![None; ROWS],
                number,
                mints: Arc::clone(&mints),
                ledger: Arc::clone(&ledger),
                refused: Arc::clone(&refused),
                stop: Arc::clone(&stop),
            };
            tasks.spawn(reader.run());
        }
        for number in 0..WRITERS {
            let writer = Writer {
                clients: clients.to_vec(),
                session: Session::default(),
                postgres: postgres.clone(),
                number,
                ledger: Arc::clone(&ledger),
                refused: Arc::clone(&refused),
                stop: Arc::clone(&stop),
            };
            tasks.spawn(writer.run());
        }
        for number in 0..AMBUSHES {
            let ambush = Ambush {
                clients: clients.to_vec(),
                postgres: postgres.clone(),
                row: ROWS + number,
                ledger: Arc::clone(&ledger),
                refused: Arc::clone(&refused),
                stop: Arc::clone(&stop),
            };
            tasks.spawn(ambush.run());
        }
        Ok(Self { ledger, refused, stop, tasks })
    }

    /// Ends it; an error if somebody met with something that must not happen.
    pub(crate) async fn finish(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a task of the load")??;
        }
        Ok(())
    }
}

/// A mint: 43 digits of base 58 that begin with a high one are 32 bytes.
pub(crate) fn mint(row: usize) -> String {
    let digits: String = format!("{row:04}")
        .bytes()
        .map(|digit| char::from(digit + 1))
        .map(|digit| if digit == ':' { 'A' } else { digit })
        .collect();
    format!("Chaos{}{digits}", "x".repeat(34))
}

struct Reader {
    clients: Vec<TokenClient>,
    /// The one that it asks.
    replica: usize,
    session: Option<Session>,
    /// The highest version of each row that the session has seen.
    seen: Vec<Option<i64>>,
    number: usize,
    mints: Arc<[String]>,
    ledger: Arc<Ledger>,
    refused: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Reader {
    async fn run(mut self) -> anyhow::Result<()> {
        let mut round = self.number * 31;
        while !self.stop.load(Relaxed) {
            round += 1;
            if self.session.is_some() {
                self.replica = round % REPLICAS;
            }
            let began_at = Instant::now();
            let answered = if round.is_multiple_of(SINGLE) {
                let row = round / SINGLE % ROWS;
                let client = &mut self.clients[self.replica];
                let returned = lookup_in(self.session.as_ref(), client, &self.mints[row]).await;
                returned.map(|returned| vec![(row, returned)])
            } else {
                self.batch((0..BATCH).map(|place| (round * 7 + place * 13) % ROWS).collect()).await
            };
            let ended_at = Instant::now();
            let Ok(rows) = answered else {
                self.refused.fetch_add(1, Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            for (row, returned) in rows {
                let seen = self.seen[row];
                if self.session.is_some() {
                    self.seen[row] = seen.max(returned);
                }
                let read = Read { replica: self.replica, began_at, ended_at, returned, seen };
                self.ledger.read(row, read);
            }
        }
        Ok(())
    }

    async fn batch(
        &mut self,
        rows: Vec<usize>,
    ) -> Result<Vec<(usize, Option<i64>)>, tonic::Status> {
        let mints = rows.iter().map(|row| self.mints[*row].clone()).collect();
        let request = BatchGetTokensRequest { mints, ..Default::default() };
        let request = said(self.session.as_ref(), request);
        let reply = self.clients[self.replica].batch_get_tokens(request).await?;
        let reply = heard(self.session.as_ref(), reply);
        let mut tokens = reply.tokens.iter().peekable();
        // Found tokens are in the order asked.
        let mut version = |row: usize| {
            let found = tokens.next_if(|token| token.mint == self.mints[row]);
            (row, found.map(|token| token.version))
        };
        Ok(rows.into_iter().map(&mut version).collect())
    }
}

struct Writer {
    clients: Vec<TokenClient>,
    /// What it has written through replicas.
    session: Session,
    postgres: PgPool,
    number: usize,
    ledger: Arc<Ledger>,
    refused: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Writer {
    async fn run(mut self) -> anyhow::Result<()> {
        let mut exists = [true; ROWS];
        let mut round = 0_usize;
        while !self.stop.load(Relaxed) {
            round += 1;
            // A few rows are written often, the others now and then.
            let own = if round.is_multiple_of(2) {
                round / 2 % HOT
            } else {
                HOT + round / 2 % (ROWS / WRITERS - HOT)
            };
            let row = own * WRITERS + self.number;
            if !exists[row] {
                exists[row] = true;
                write(&self.postgres, &self.ledger, row, &INSERT, round).await?;
            } else if round.is_multiple_of(7) {
                exists[row] = false;
                self.delete(row).await?;
            } else if round.is_multiple_of(3) {
                self.update_through(row, round % REPLICAS, round).await?;
            } else {
                write(&self.postgres, &self.ledger, row, &UPDATE, round).await?;
            }
            tokio::time::sleep(WRITE_PAUSE).await;
        }
        Ok(())
    }

    async fn delete_once(&self, row: usize) -> Result<i64, PgError> {
        let mut tx = self.postgres.begin().await?;
        tx.execute(&DELETE, &[&mint(row)]).await?;
        let version = tx.query_one(&VERSION, &[]).await?.try_get(0)?;
        tx.commit().await?;
        Ok(version)
    }

    async fn delete(&self, row: usize) -> anyhow::Result<()> {
        self.ledger.deleting(row);
        let sent_at = Instant::now();
        let mut waits = 1;
        let version = loop {
            match self.delete_once(row).await {
                Err(PgError::LockTimeout { .. }) if waits < LOCK_WAITS_MAX => waits += 1,
                deleted => break deleted.with_context(|| format!("delete row {row}"))?,
            }
        };
        self.ledger.wrote(row, version, true, sent_at, None);
        Ok(())
    }

    /// Reads what was just written through another replica. Nobody else writes the row.
    async fn read_own(&mut self, replica: usize, row: usize, version: i64) {
        let began_at = Instant::now();
        let read = lookup_in(Some(&self.session), &mut self.clients[replica], &mint(row)).await;
        let Ok(returned) = read else {
            self.refused.fetch_add(1, Relaxed);
            return;
        };
        let (ended_at, seen) = (Instant::now(), Some(version));
        self.ledger.read(row, Read { replica, began_at, ended_at, returned, seen });
    }

    /// Through a replica, which tells the others. If that fails, nobody knows whether the row was
    /// written; then nothing is entered, and the row may only be newer than the ledger says.
    async fn update_through(
        &mut self,
        row: usize,
        replica: usize,
        round: usize,
    ) -> anyhow::Result<()> {
        let client = &mut self.clients[replica];
        let updated = async {
            let lookup = timed(LookupTokenRequest { mint: mint(row) });
            let token = client.lookup_token(lookup).await?.into_inner().token.unwrap_or_default();
            let request = UpdateTokenRequest {
                token: Some(Token {
                    id: token.id,
                    name: format!("round {round}"),
                    ..Default::default()
                }),
                update_mask: Some(FieldMask { paths: vec!["name".to_owned()] }),
                ..Default::default()
            };
            let sent_at = Instant::now();
            let reply = client.update_token(said(Some(&self.session), request)).await?;
            let reply = heard(Some(&self.session), reply);
            Ok::<_, tonic::Status>((sent_at, reply.token.unwrap_or_default().version))
        };
        match updated.await {
            Ok((sent_at, version)) => {
                self.ledger.wrote(row, version, false, sent_at, Some(replica));
                self.read_own((replica + 1) % REPLICAS, row, version).await;
            }
            Err(_unknown) => {
                self.refused.fetch_add(1, Relaxed);
            }
        }
        Ok(())
    }
}

/// The version of a row that a replica returns, if it returns one.
pub(crate) async fn lookup(
    client: &mut TokenClient,
    mint: &str,
) -> Result<Option<i64>, tonic::Status> {
    lookup_in(None, client, mint).await
}

/// As [`lookup`], in a session.
async fn lookup_in(
    session: Option<&Session>,
    client: &mut TokenClient,
    mint: &str,
) -> Result<Option<i64>, tonic::Status> {
    let request = LookupTokenRequest { mint: mint.to_owned() };
    match client.lookup_token(said(session, request)).await {
        Ok(reply) => Ok(heard(session, reply).token.map(|token| token.version)),
        Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
        Err(status) => Err(status),
    }
}

/// Plain SQL, as from psql: no service knows of it.
pub(crate) async fn write(
    postgres: &PgPool,
    ledger: &Ledger,
    row: usize,
    sql: &Sql,
    round: usize,
) -> anyhow::Result<()> {
    let sent_at = Instant::now();
    let version = upsert(postgres, sql, row, &format!("round {round}")).await?;
    ledger.wrote(row, version, false, sent_at, None);
    Ok(())
}

/// A request that says what its session has seen.
fn said<T>(session: Option<&Session>, message: T) -> tonic::Request<T> {
    let mut request = match session {
        Some(session) => session.request(message),
        None => tonic::Request::new(message),
    };
    request.set_timeout(CALL_TIMEOUT);
    request
}

/// The message of a reply; the session has seen what it shows.
fn heard<T>(session: Option<&Session>, reply: tonic::Response<T>) -> T {
    if let Some(session) = session {
        session.has_seen(reply.metadata());
    }
    reply.into_inner()
}

fn timed<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

async fn upsert(postgres: &PgPool, sql: &Sql, row: usize, name: &str) -> anyhow::Result<i64> {
    let mut waits = 1;
    loop {
        match postgres.query_one(sql, &[&mint(row), &name]).await {
            Err(PgError::LockTimeout { .. }) if waits < LOCK_WAITS_MAX => waits += 1,
            written => {
                return Ok(written.with_context(|| format!("write row {row}"))?.try_get(0)?);
            }
        }
    }
}
