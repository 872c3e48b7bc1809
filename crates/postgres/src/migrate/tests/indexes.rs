//! Every query that the index migration names, planned over a million rows.
//!
//! The queries are read from the migration's own comments, so that a comment cannot promise what
//! a plan does not keep. Each is planned as a prepared statement, for the values at hand and, unless
//! the comments say that it is planned each time, for any values: that is the plan that Postgres
//! may reuse once the statement has run five times.

use std::collections::BTreeSet;

use forebay_testkit::{TestDatabase, empty_database};
use serde_json::Value;
use tokio_postgres::Client;

use super::super::{Embedded, embedded, run, run_these};

const V2: &str = include_str!("../../../../../migrations/V2__performance_indexes.sql");

/// What the parameters of the queries stand for, each a literal of the rows that are loaded.
const PARAMETERS: [(&str, &str, &str); 20] = [
    ("$pool_address", "text", "'8'"),
    ("$pool_argument", "text", "'pool-4711'"),
    ("$pool_id", "uuid", "'00000000-0000-0000-0000-000000000007'"),
    ("$other_token_id", "uuid", "'00000000-0000-0000-0000-00000000c353'"),
    ("$token_id", "uuid", "'00000000-0000-0000-0000-000000000002'"),
    ("$mint", "text", "'8'"),
    ("$symbol", "text", "'S42'"),
    ("$tag", "text", "'rare'"),
    ("$name_prefix", "text", "'Abc Token 7'"),
    ("$coingecko_id", "text", "'coin-4000'"),
    ("$dex", "text", "'dex-42'"),
    ("$program", "text", "'program-4000'"),
    ("$principal", "text", "'principal 42'"),
    ("$campaign_dex", "text", "'dex-42'"),
    ("$campaign_run_id", "uuid", "'00000000-0000-0000-0000-000000000007'"),
    ("$campaign_id", "uuid", "'00000000-0000-0000-0000-000000000007'"),
    ("$queue", "text", "'queue-0'"),
    ("$kind", "text", "'gather-pool'"),
    ("$unique_key", "text", "'key-4701'"),
    ("$xid", "text", "'99990'"),
];

/// One block of the migration's comments.
#[derive(Debug, PartialEq, Eq)]
struct Documented {
    serves: String,
    query: String,
    index: String,
    modes: &'static [&'static str],
}

const ANY_VALUES: &[&str] = &["force_custom_plan", "force_generic_plan"];
const THESE_VALUES: &[&str] = &["force_custom_plan"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_documented_query_uses_its_index_at_a_million_rows() {
    let database = empty_database().await;
    let (before, after) = split();
    run_these(database.url(), &before).await.unwrap();
    load(&database).await;
    run_these(database.url(), &after).await.unwrap();
    let connection = database.connect().await;
    let client = connection.client();
    client.batch_execute("REFRESH MATERIALIZED VIEW pool_stats_24h; ANALYZE").await.unwrap();

    let mut failures = Vec::new();
    for documented in documented(V2) {
        for mode in documented.modes {
            let plan = plan(client, &documented.query, mode).await;
            let used = indexes(client, &plan).await;
            if !used.contains(&documented.index) {
                failures.push(format!("{mode}: {documented:?} used {used:?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Fails when an index is added without the query that it serves.
#[tokio::test]
async fn every_index_has_a_query() {
    let database = empty_database().await;
    run(database.url()).await.unwrap();
    let connection = database.connect().await;
    let rows = connection
        .client()
        .query(
            "SELECT relname::text FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
             WHERE relnamespace = 'public'::regnamespace AND NOT relispartition
                AND NOT indisprimary
                AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)",
            &[],
        )
        .await
        .unwrap();
    let documented: BTreeSet<_> = documented(V2).into_iter().map(|block| block.index).collect();
    let indexes: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let undocumented: Vec<_> = indexes.difference(&documented).collect();
    assert!(undocumented.is_empty(), "{undocumented:?}");
}

#[test]
fn comments_are_read() {
    let text = "-- serves: a\n-- plan: each time\n-- query: SELECT 1\nCREATE UNIQUE INDEX one ON t (x)\n\
                -- serves: b\n-- query: SELECT 2\n-- index: two (from V1)\n";
    let block = |serves: &str, query: &str, index: &str, modes| Documented {
        serves: serves.to_owned(),
        query: query.to_owned(),
        index: index.to_owned(),
        modes,
    };
    assert_eq!(
        documented(text),
        [block("a", "SELECT 1", "one", THESE_VALUES), block("b", "SELECT 2", "two", ANY_VALUES)]
    );
}

/// The migrations before the indexes, and all of them: rows load faster without indexes.
fn split() -> (Vec<Embedded>, Vec<Embedded>) {
    let all = embedded();
    let before = all.iter().copied().take_while(|migration| migration.sql != V2).collect();
    (before, all)
}

async fn load(database: &TestDatabase) {
    let (one, other) = tokio::join!(database.connect(), database.connect());
    one.client().batch_execute(include_str!("prepare.sql")).await.unwrap();
    let database_settings = format!(
        "ALTER DATABASE \"{}\" SET maintenance_work_mem = '256MB'",
        database.url().rsplit('/').next().unwrap()
    );
    one.client().batch_execute(&database_settings).await.unwrap();
    let loading = [
        one.client().batch_execute(include_str!("load_1.sql")),
        other.client().batch_execute(include_str!("load_2.sql")),
    ];
    futures_util::future::try_join_all(loading).await.unwrap();
}

fn documented(text: &str) -> Vec<Documented> {
    let mut blocks = Vec::new();
    let (mut serves, mut query, mut modes) = (None, None, ANY_VALUES);
    for line in text.lines() {
        if let Some(what) = line.strip_prefix("-- serves: ") {
            assert_eq!(query, None, "no index follows {query:?}");
            (serves, modes) = (Some(what.to_owned()), ANY_VALUES);
        } else if line == "-- plan: each time" {
            modes = THESE_VALUES;
        } else if let Some(sql) = line.strip_prefix("-- query: ") {
            query = Some(sql.to_owned());
        } else if let Some(index) = index_name(line)
            && let (Some(serves), Some(query)) = (serves.take(), query.take())
        {
            blocks.push(Documented { serves, query, index: index.to_owned(), modes });
        }
    }
    assert_eq!(query, None, "no index follows {query:?}");
    blocks
}

fn index_name(line: &str) -> Option<&str> {
    ["-- index: ", "CREATE INDEX ", "CREATE UNIQUE INDEX "]
        .iter()
        .find_map(|prefix| line.strip_prefix(prefix))?
        .split([' ', '('])
        .next()
}

/// The plan of a prepared statement as JSON.
async fn plan(client: &Client, query: &str, mode: &str) -> Value {
    let (mut statement, mut types, mut values) = (query.to_owned(), Vec::new(), Vec::new());
    // `$position` is a number and not among the texts.
    let position = ("$position", "bigint", "1");
    for (name, kind, value) in PARAMETERS.iter().copied().chain([position]) {
        if replace(&mut statement, name, types.len() + 1) {
            types.push(kind);
            values.push(value);
        }
    }
    let list = |items: &[&str]| match items {
        [] => String::new(),
        items => format!("({})", items.join(", ")),
    };
    client
        .batch_execute(&format!(
            "DEALLOCATE ALL; SET plan_cache_mode = {mode}; PREPARE documented{} AS {statement}",
            list(&types)
        ))
        .await
        .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    let explain = format!("EXPLAIN (FORMAT JSON) EXECUTE documented{}", list(&values));
    let messages = client.simple_query(&explain).await.unwrap();
    let text = messages
        .iter()
        .find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        })
        .unwrap();
    serde_json::from_str(text).unwrap()
}

/// Replaces a named parameter by its number, unless the name only begins a longer one.
fn replace(statement: &mut String, name: &str, number: usize) -> bool {
    let pieces: Vec<_> = statement.split(name).collect();
    let numbered = format!("${number}");
    let mut replaced = pieces[0].to_owned();
    for piece in &pieces[1..] {
        let is_longer = piece.starts_with(|c: char| c == '_' || c.is_ascii_alphanumeric());
        replaced.push_str(if is_longer { name } else { &numbered });
        replaced.push_str(piece);
    }
    let found = replaced != *statement;
    *statement = replaced;
    found
}

/// The indexes in a plan; an index of a partition counts as the one of the whole table.
async fn indexes(client: &Client, plan: &Value) -> BTreeSet<String> {
    let mut names = Vec::new();
    collect(plan, &mut names);
    let rows = client
        .query(
            "WITH RECURSIVE used AS (
                SELECT oid, relname FROM pg_class WHERE relname = ANY ($1)
                UNION ALL
                SELECT parent.oid, parent.relname
                FROM used JOIN pg_inherits ON inhrelid = used.oid
                JOIN pg_class AS parent ON parent.oid = inhparent)
             SELECT relname::text FROM used",
            &[&names],
        )
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

fn collect(plan: &Value, names: &mut Vec<String>) {
    match plan {
        Value::Object(fields) => {
            names.extend(fields.get("Index Name").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| collect(value, names));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, names)),
        _ => {}
    }
}
