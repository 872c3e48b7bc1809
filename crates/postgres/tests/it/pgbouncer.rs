//! Behind a transaction pooler: many clients of two processes on two server connections.

mod client;
mod limits;
mod tally;

use std::process::Stdio;
use std::time::Duration;

use forebay_config::{PostgresConfig, PostgresMode};
use forebay_postgres::{PgPool, Sql};
use forebay_testkit::{PrivatePgBouncer, TestDatabase, empty_database, postgres_config};
use tokio::time::{Instant, interval, timeout};

use client::Clients;
use tally::Tally;

/// Clients of each process, each with a connection of its own to the pooler.
const CLIENTS: i32 = 100;

/// How often each client does everything that a client does.
const ROUNDS: i32 = 5;

/// Rows of the table with an enum column; the clients of a process read all of them in each round.
const MOODS: i32 = 20_000;

/// Server connections of the pooler.
const SERVERS: usize = 2;

/// No answer takes this long, and whoever waits longer hangs.
const HANG: Duration = Duration::from_secs(60);

/// A process that takes longer than this hangs as a whole.
const PROCESS_HANG: Duration = Duration::from_secs(240);

/// Names the database, through the pooler, to the second process.
const URL_ENV: &str = "FOREBAY_IT_POOLER_URL";

/// Tells a process its number.
const PROCESS_ENV: &str = "FOREBAY_IT_PROCESS";

/// Fails when statements keep their names (26000 `prepared statement "s7" does not exist`), when one
/// is prepared outside a transaction of its own (42P05 `prepared statement "s83" already exists`, from
/// the other process), when a column of an own type is read as such, when a setting outlives its
/// transaction, and when a connection is opened with settings.
///
/// With a pooler that refuses start-up parameters, and with one that ignores them, as many do.
#[tokio::test]
async fn two_processes_share_two_server_connections_and_nothing_else() {
    for ignored in ["", "extra_float_digits,options"] {
        let database = prepared_database().await;
        let settings = [("ignore_startup_parameters", ignored)];
        let pooler = PrivatePgBouncer::start_with(database.url(), &settings);
        let started = Instant::now();
        let (clients, servers) = {
            let mut running = std::pin::pin!(async {
                let url = through(&pooler);
                tokio::join!(process(&url, 0), process(&url, 1));
            });
            let mut sample = interval(Duration::from_millis(50));
            let mut most = (0, 0);
            loop {
                tokio::select! {
                    () = &mut running => break most,
                    _ = sample.tick() => {
                        let count = |what| connections(&pooler, what, &database);
                        most = (most.0.max(count("CLIENTS")), most.1.max(count("SERVERS")));
                    }
                }
            }
        };
        let elapsed = started.elapsed();
        tally::print(&format!(
            "ignore_startup_parameters={ignored:?}: {clients} clients on {servers} server \
             connections, both processes done in {elapsed:.1?}"
        ));
        // The pooler may still show one that was replaced.
        assert!(clients >= 2 * usize::try_from(CLIENTS).expect("a small number"), "{clients}");
        assert_eq!(servers, SERVERS);
        assert_all_was_written(&database, 2).await;
    }
}

/// What one of those processes does, or all of it alone when nobody has started it for that.
#[tokio::test]
async fn one_process_shares_two_server_connections_among_its_clients() {
    if let Ok(url) = std::env::var(URL_ENV) {
        let number = std::env::var(PROCESS_ENV).expect("who sets the URL sets the number");
        let number = number.parse().expect("a number");
        return load(PostgresMode::Auto, &url, number, 2).await.assert_all_right();
    }
    let database = prepared_database().await;
    let pooler = PrivatePgBouncer::start(database.url());
    load(PostgresMode::Auto, &through(&pooler), 0, 1).await.assert_all_right();
    assert_all_was_written(&database, 1).await;
}

/// The other tests would notice a client that takes the pooler for the server. Fails when the load
/// is too small for that.
#[tokio::test]
async fn names_and_settings_of_a_session_do_not_go_through_the_pooler() {
    let database = prepared_database().await;
    let settings = [("ignore_startup_parameters", "extra_float_digits,options")];
    let pooler = PrivatePgBouncer::start_with(database.url(), &settings);
    let errors = load(PostgresMode::Session, &pooler.url(), 0, 1).await.errors();
    assert!(errors.iter().any(|error| error.contains(": 26000: ")), "no lost names: {errors:?}");

    let pooler = PrivatePgBouncer::start(database.url());
    let config = PostgresConfig { mode: PostgresMode::Session, ..postgres_config(&pooler.url()) };
    let postgres = PgPool::new(&config, "it-session").expect("a connection pool");
    let refused = postgres.ready().await.expect_err("a session starts with settings");
    let refused = tally::chain(&refused);
    tally::print(&format!("a session is refused: {refused}"));
    assert!(refused.contains("unsupported startup parameter: options"), "{refused}");
}

/// Runs the other test of this file in a process of its own. Its statements have the same names as
/// those of every other process, because the driver numbers them.
async fn process(url: &str, number: i32) {
    let name = "pgbouncer::one_process_shares_two_server_connections_among_its_clients";
    let mut command =
        tokio::process::Command::new(std::env::current_exe().expect("the path of this program"));
    command
        .args([name, "--exact", "--nocapture"])
        .env(URL_ENV, url)
        .env(PROCESS_ENV, number.to_string())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(PROCESS_HANG, command.output()).await;
    let output = output.expect("the process hangs").expect("a process");
    let words = String::from_utf8_lossy(&output.stdout);
    words.lines().filter(|line| line.starts_with("process ")).for_each(tally::print);
    assert!(output.status.success(), "{words}{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs the clients of process `number`, prints the figures, and returns what they saw.
async fn load(mode: PostgresMode, url: &str, number: i32, processes: i32) -> Tally {
    let mut config = postgres_config(url);
    config.mode = mode;
    config.connections_max = CLIENTS.unsigned_abs();
    config.connections_min = CLIENTS.unsigned_abs();
    config.waiting_max = 1000;
    config.acquire_timeout = HANG;
    config.connect_timeout = HANG;
    config.statement_timeout = HANG;
    let service = format!("it-process-{number}");
    let postgres = PgPool::new(&config, &service).expect("a connection pool");
    await_others(&postgres, number, processes).await;

    let tally = Tally::start();
    let clients = Clients::new(postgres.clone(), service, tally.clone());
    let running: Vec<_> = (0..CLIENTS)
        .map(|client| tokio::spawn(clients.clone().run(number * CLIENTS + client)))
        .collect();
    for client in running {
        client.await.expect("no client panics");
    }
    tally.print(&format!("process {number}"), &postgres.stats());
    tally
}

/// Waits until every process is there, so that all work at the same time.
async fn await_others(postgres: &PgPool, number: i32, processes: i32) {
    static ARRIVE: Sql = Sql::new("INSERT present", "INSERT INTO present VALUES ($1)");
    static PRESENT: Sql = Sql::new("SELECT present", "SELECT count(*)::int FROM present");
    postgres.execute(&ARRIVE, &[&number]).await.expect("a first write");
    let all_are_there = async {
        while postgres.query_one(&PRESENT, &[]).await.expect("a count").get::<_, i32>(0) < processes
        {
            tokio::task::yield_now().await;
        }
    };
    timeout(HANG, all_are_there).await.expect("the other process comes");
}

async fn prepared_database() -> TestDatabase {
    let database = empty_database().await;
    let schema = format!(
        "CREATE TYPE mood AS ENUM ('calm', 'busy', 'lost');
         CREATE TABLE moods (id int PRIMARY KEY, mood mood NOT NULL, note text NOT NULL);
         INSERT INTO moods SELECT i, (enum_range(NULL::mood))[i % 3 + 1], 'note ' || i
             FROM generate_series(0, {MOODS} - 1) i;
         CREATE TABLE counters (client int PRIMARY KEY, n bigint NOT NULL);
         INSERT INTO counters SELECT i, 0 FROM generate_series(0, 2 * {CLIENTS} - 1) i;
         CREATE TABLE written (client int, round int, mood mood NOT NULL, payload jsonb NOT NULL,
             PRIMARY KEY (client, round));
         CREATE TABLE present (process int PRIMARY KEY);"
    );
    let connection = database.connect().await;
    connection.client().batch_execute(&schema).await.expect("a schema");
    database
}

/// Asks the server itself: every write that was answered is there, once, and nothing else is.
async fn assert_all_was_written(database: &TestDatabase, processes: i32) {
    let connection = database.connect().await;
    let ask = async |sql: &str| -> i64 {
        connection.client().query_one(sql, &[]).await.expect("a count").get(0)
    };
    let rows = i64::from(processes * CLIENTS * ROUNDS);
    assert_eq!(ask("SELECT count(*) FROM written").await, rows);
    let right = "SELECT count(*) FROM written WHERE mood = (enum_range(NULL::mood))[round % 3 + 1] \
                 AND payload = jsonb_build_object('client', client, 'round', round)";
    assert_eq!(ask(right).await, rows);
    let counted = format!("SELECT count(*) FROM counters WHERE n = {ROUNDS}");
    assert_eq!(ask(&counted).await, i64::from(processes * CLIENTS));
}

fn through(pooler: &PrivatePgBouncer) -> String {
    format!("{}?pgbouncer=true", pooler.url())
}

/// Connections of `database` that the pooler has on one of its sides.
fn connections(pooler: &PrivatePgBouncer, what: &str, database: &TestDatabase) -> usize {
    const DATABASE_COLUMN: usize = 2;
    let name = database.url().rsplit('/').next().expect("a database has a name");
    let rows = pooler.show(&format!("SHOW {what}"));
    rows.iter().filter(|row| row[DATABASE_COLUMN].as_deref() == Some(name)).count()
}
