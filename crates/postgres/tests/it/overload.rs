//! More callers than can be served.

#![expect(clippy::print_stdout, reason = "the figures of a test are for whoever reads its output")]

use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bb8_postgres::PostgresConnectionManager;
use bb8_postgres::bb8::Pool;
use bytes::BytesMut;
use forebay_postgres::{PgError, PgPool, ToSql, Type};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_postgres::NoTls;
use tokio_postgres::types::{IsNull, to_sql_checked};

use crate::support::{ALONE, Fixture, SLEEP, ms};

/// Callers come in crowds, each of them at once: the first one, and the next whenever so many more
/// were served. So there are as many to serve, and to refuse, on a slow machine.
const FIRST_CROWD: usize = 250;
const CROWD: usize = 75;
const SERVED_BETWEEN: usize = 20;
const CALLERS: usize = 1000;
const CONNECTIONS: usize = 4;
const WAITING_MAX: usize = 150;
const TIMEOUT: Duration = Duration::from_secs(1);

/// Who was served, in the order in which statements were sent.
type Order = Arc<Mutex<Vec<usize>>>;

/// Seconds to sleep; notes the moment in which the statement is sent, on our side.
#[derive(Debug)]
struct Nap(usize, Order);

impl ToSql for Nap {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.1.lock().push(self.0);
        0.02_f64.to_sql(ty, out)
    }

    fn accepts(ty: &Type) -> bool {
        <f64 as ToSql>::accepts(ty)
    }

    to_sql_checked!();
}

/// Why a caller was not served.
enum Refused {
    /// The queue was full, with so many in it.
    Full(usize),
    /// Its turn would have come too late.
    TooLate,
    /// It waited for nothing.
    Timeout,
}

#[derive(Debug, Default)]
struct Outcome {
    served: usize,
    full: usize,
    too_late: usize,
    timeouts: usize,
    inversions: usize,
    /// The most that waited when one was turned away because of it.
    waiting_max: usize,
    /// Refusals that were not there when the caller looked for the first time.
    hesitant: usize,
    /// How long refusals took.
    median: Duration,
    slowest: Duration,
}

/// What became of one caller, how long it took, and how often it had to look.
struct Told {
    outcome: Result<(), Refused>,
    took: Duration,
    looks: u32,
}

/// Waits for the answer to `call`, with a glance around after every look.
async fn look(call: impl Future<Output = Result<(), Refused>>, glance: impl Fn()) -> Told {
    let started = Instant::now();
    let (mut call, mut looks) = (pin!(call), 0);
    let outcome = std::future::poll_fn(|context| {
        looks += 1;
        let outcome = call.as_mut().poll(context);
        glance();
        outcome
    });
    Told { outcome: outcome.await, took: started.elapsed(), looks }
}

/// Runs all callers.
async fn run<F: Future<Output = Result<(), Refused>> + Send + 'static>(
    call: impl Fn(Nap) -> F,
    glance: impl Fn() + Clone + Send + Sync + 'static,
) -> Outcome {
    let order = Order::default();
    let ended = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    let mut wanted = 0;
    while tasks.len() < CALLERS {
        let crowd = if tasks.is_empty() { FIRST_CROWD } else { CROWD };
        for _ in 0..crowd {
            let call = call(Nap(tasks.len(), Arc::clone(&order)));
            let (ended, glance) = (Arc::clone(&ended), glance.clone());
            tasks.push(tokio::spawn(async move {
                let told = look(call, glance).await;
                ended.fetch_add(usize::from(told.outcome.is_ok()), Ordering::Relaxed);
                told
            }));
        }
        wanted += SERVED_BETWEEN;
        while ended.load(Ordering::Relaxed) < wanted {
            tokio::time::sleep(ms(1)).await;
        }
    }
    let mut all = Outcome::default();
    let mut took = Vec::new();
    for task in tasks {
        let told = task.await.expect("the task ends");
        match told.outcome {
            Ok(()) => all.served += 1,
            Err(Refused::Timeout) => all.timeouts += 1,
            Err(Refused::Full(waiting)) => {
                all.full += 1;
                all.waiting_max = all.waiting_max.max(waiting);
                took.push(told.took);
                all.hesitant += usize::from(told.looks > 1);
            }
            Err(Refused::TooLate) => {
                all.too_late += 1;
                took.push(told.took);
                all.hesitant += usize::from(told.looks > 1);
            }
        }
    }
    took.sort_unstable();
    all.median = took.get(took.len() / 2).copied().unwrap_or_default();
    all.slowest = took.last().copied().unwrap_or_default();
    // The first of them find a connection each, at the same time: they have no order.
    let order = order.lock();
    let rest = order.get(CONNECTIONS..).unwrap_or_default();
    all.inversions = rest.windows(2).filter(|pair| pair[0] > pair[1]).count();
    all
}

/// Opens all connections and prepares the statement on each, so that from then on the order of
/// sending is the order of getting a connection.
async fn warm(postgres: &PgPool) {
    let all = (0..CONNECTIONS).map(|_| postgres.begin());
    for tx in futures_util::future::join_all(all).await {
        let mut tx = tx.expect("a connection");
        tx.query(&SLEEP, &[&0.0_f64]).await.expect("a nap");
        tx.rollback().await.expect("a rollback");
    }
}

/// Fails without the gate (everybody waits out the second), without the bound of its queue (more
/// wait than may), when it lets in whoever came last (inversions), and when a refusal waits for
/// something (it is not there at once). The same load on bb8 alone is printed beside it.
#[tokio::test]
async fn an_overload_is_refused_at_once_and_the_rest_served_in_order() {
    let _alone = ALONE.lock().await;
    let it = Fixture::with(|config| {
        config.connections_max = u32::try_from(CONNECTIONS).expect("a few");
        config.waiting_max = WAITING_MAX;
        config.acquire_timeout = TIMEOUT;
    })
    .await;
    warm(&it.postgres).await;
    let most_waiting = Arc::new(AtomicUsize::new(0));
    let call = |nap| {
        let postgres = it.postgres.clone();
        async move {
            match postgres.query(&SLEEP, &[&nap]).await {
                Ok(_) => Ok(()),
                Err(PgError::Timeout { .. }) => Err(Refused::Timeout),
                Err(PgError::Shed { waiting, predicted: None }) => Err(Refused::Full(waiting)),
                Err(PgError::Shed { predicted: Some(_), .. }) => Err(Refused::TooLate),
                Err(error) => panic!("{error:?}"),
            }
        }
    };
    // Right after each caller has asked, so that no larger number is missed.
    let glance = {
        let (postgres, most_waiting) = (it.postgres.clone(), Arc::clone(&most_waiting));
        move || {
            let waiting = usize::try_from(postgres.stats().waiting).expect("a few");
            most_waiting.fetch_max(waiting, Ordering::Relaxed);
        }
    };
    let ours = run(call, glance).await;
    let most_waiting = most_waiting.load(Ordering::Relaxed);
    println!("overload: ours {ours:?}, at most {most_waiting} waiting");

    let config = it.database.url().parse().expect("a url");
    let manager = PostgresConnectionManager::new(config, NoTls);
    let max_size = u32::try_from(CONNECTIONS).expect("a few");
    let builder = Pool::builder().max_size(max_size).connection_timeout(TIMEOUT);
    let plain = builder.build(manager).await.expect("a server");
    let call = |nap| {
        let plain = plain.clone();
        async move {
            let connection = plain.get().await.map_err(|_| Refused::Timeout)?;
            let sql = "SELECT pg_sleep($1)";
            let rows = connection.query_typed(sql, &[(&nap, Type::FLOAT8)]).await;
            rows.map(drop).map_err(|error| panic!("{error:?}"))
        }
    };
    let plain = run(call, || ()).await;
    println!("overload: bb8 alone {plain:?}");

    assert_eq!(most_waiting, WAITING_MAX, "the queue is used, and no more than that waits");
    assert!(ours.full > 0 && ours.waiting_max == WAITING_MAX, "{ours:?}");
    assert!(ours.served >= 190, "{ours:?}");
    assert_eq!(ours.inversions, 0, "served in the order they came: {ours:?}");
    assert_eq!(ours.hesitant, 0, "a refusal waits for nothing: {ours:?}");
    // Some ten microseconds. The slowest is printed only: it is what the machine had to do besides.
    assert!(ours.median < ms(5), "{ours:?}");
    // None as a rule. What was in time when the caller came is too late when its turn comes if the
    // machine stands still for a quarter of a second meanwhile.
    assert!(ours.timeouts * 100 <= CALLERS, "{ours:?}");
}
