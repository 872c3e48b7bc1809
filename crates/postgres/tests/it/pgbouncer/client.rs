//! What one client asks, and the right answers.

use std::sync::Arc;

use forebay_postgres::{
    Json, PgError, PgPool, PgTransaction, PointReads, PointReadsBounds, Row, Sql,
};

use super::tally::Tally;
use super::{CLIENTS, MOODS, ROUNDS};

/// Different texts of one kind of question, so that a connection knows many statements.
const TEXTS: i32 = 16;

const MOOD_NAMES: [&str; 3] = ["calm", "busy", "lost"];

// An enum is read as text and written from text: the driver would look its type up, by name.
static PAGE: Sql = Sql::new(
    "SELECT moods",
    "SELECT id, mood::text, note FROM moods WHERE id >= $1 AND id < $2 ORDER BY id",
);
static BY_MOOD: Sql = Sql::new(
    "SELECT moods",
    "SELECT count(*) FROM moods WHERE mood = ANY($1::text[]::mood[]) AND id < $2",
);
static BY_IDS: Sql = Sql::new("SELECT moods", "SELECT id, note FROM moods WHERE id = ANY($1)");
static WRITE: Sql = Sql::new(
    "INSERT written",
    "INSERT INTO written (client, round, mood, payload) VALUES ($1, $2, $3::text::mood, $4) \
     RETURNING client, mood::text",
);
static COUNT_UP: Sql = Sql::new(
    "UPDATE counters",
    "UPDATE counters SET n = n + 1 WHERE client = $1 AND n = $2 RETURNING n, pg_backend_pid()",
);
static COUNTED: Sql =
    Sql::new("SELECT counters", "SELECT n, pg_backend_pid() FROM counters WHERE client = $1");
static SET_LOCAL: Sql = Sql::new(
    "SELECT set_config",
    "SELECT set_config('forebay.who', $1, true), set_config('statement_timeout', $2, true)",
);
static SETTINGS: Sql = Sql::new(
    "SELECT current_setting",
    "SELECT coalesce(current_setting('forebay.who', true), ''), \
     current_setting('statement_timeout'), current_setting('application_name')",
);
// What a SET would have left. The pooler itself sets these five anew for each client.
static CHANGED_SETTINGS: Sql = Sql::new(
    "SELECT pg_settings",
    "SELECT string_agg(name || '=' || setting, ' ') FROM pg_settings \
     WHERE source = 'session' AND name NOT IN ('application_name', \
     'client_encoding', 'DateStyle', 'TimeZone', 'standard_conforming_strings')",
);
static SHOW_ALL: Sql = Sql::new("SHOW ALL", "SHOW ALL");

/// The clients of a process. Clones share everything.
#[derive(Clone)]
pub(super) struct Clients {
    postgres: PgPool,
    service: String,
    questions: Arc<[Sql]>,
    notes: PointReads<i32, String>,
    tally: Tally,
}

impl Clients {
    pub(super) fn new(postgres: PgPool, service: String, tally: Tally) -> Self {
        let text = |number| {
            let text = format!("SELECT $1::bigint + {number}, $2::text, $3::bytea");
            let sql = Sql::owned("SELECT question", text);
            // Planned each time is another way to run a statement.
            if number % 4 == 0 { sql.planned_each_time() } else { sql }
        };
        let bounds = PointReadsBounds::default();
        let notes =
            PointReads::new(postgres.clone(), BY_IDS.clone(), bounds, |row| Ok(row.try_get(1)?));
        Self { postgres, service, questions: (0..TEXTS).map(text).collect(), notes, tally }
    }

    /// Does everything [`ROUNDS`] times as client `who`.
    pub(super) async fn run(self, who: i32) {
        for round in 0..ROUNDS {
            self.asks(who, round).await;
            self.reads(who).await;
            self.writes(who, round).await;
            self.counts(who, round).await;
            self.changes_its_mind(who, round).await;
            self.finds_no_settings_of_others().await;
        }
        self.finds_the_settings_of_the_server().await;
    }

    async fn asks(&self, who: i32, round: i32) {
        let number = (who + round) % TEXTS;
        let sql = &self.questions[usize::try_from(number).expect("it is not negative")];
        let (a, b) = (i64::from(who) * 1000 + i64::from(round), format!("{who} in {round}"));
        let answer =
            self.tally.answer("ask", self.postgres.query_one(sql, &[&a, &b, &b.as_bytes()])).await;
        if let Some(row) = answer {
            let right = (a + i64::from(number), b.as_str(), b.as_bytes());
            self.compare(
                "ask",
                &row,
                |row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)),
                right,
            );
        }
    }

    /// Its share of the table with the enum, and a row of it through a batch of many clients.
    async fn reads(&self, who: i32) {
        const SHARE: i32 = MOODS / CLIENTS;
        let start = who % CLIENTS * SHARE;
        let answer = self
            .tally
            .answer("page", self.postgres.query(&PAGE, &[&start, &(start + SHARE)]))
            .await;
        if let Some(rows) = answer {
            self.tally.check("page", rows.len(), usize::try_from(SHARE).expect("it is positive"));
            self.tally.rows(rows.len());
            for (id, row) in (start..).zip(&rows) {
                let note = note(id);
                let right = (id, mood(id), note.as_str());
                self.compare(
                    "page",
                    row,
                    |row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)),
                    right,
                );
            }
        }
        let two: &[&str] = &["calm", "lost"];
        let below = 3 * (who + 1);
        let answer =
            self.tally.answer("moods", self.postgres.query_one(&BY_MOOD, &[&two, &below])).await;
        if let Some(row) = answer {
            self.compare("moods", &row, |row| row.try_get(0), i64::from(2 * (who + 1)));
        }
        if let Some(found) = self.tally.answer("point", self.notes.get(start)).await {
            self.tally.check("point", found, Some(note(start)));
        }
    }

    async fn writes(&self, who: i32, round: i32) {
        let payload = Json(serde_json::json!({ "client": who, "round": round }));
        let answer = self
            .tally
            .answer(
                "write",
                self.postgres.query_one(&WRITE, &[&who, &round, &mood(round), &payload]),
            )
            .await;
        if let Some(row) = answer {
            let right = (who, mood(round));
            self.compare("write", &row, |row| Ok((row.try_get(0)?, row.try_get(1)?)), right);
        }
    }

    /// A transaction stays on one server connection, and what it sets for itself ends with it.
    async fn counts(&self, who: i32, round: i32) {
        let work = async {
            let mut tx = self.postgres.begin().await?;
            let before = i64::from(round);
            let row = tx.query_one(&COUNT_UP, &[&who, &before]).await?;
            let (n, backend): (i64, i32) = (row.try_get(0)?, row.try_get(1)?);
            let own = who.to_string();
            tx.query_one(&SET_LOCAL, &[&own, &"59s"]).await?;
            let settings = self.settings(&mut tx).await?;
            let again = tx.query_one(&COUNTED, &[&who]).await?;
            let (n_again, backend_again): (i64, i32) = (again.try_get(0)?, again.try_get(1)?);
            tx.commit().await?;
            self.tally.check("count", (n, n_again), (before + 1, before + 1));
            self.tally.check("server connection", backend_again, backend);
            self.tally.check("own settings", settings, (own, "59s".to_owned()));
            Ok(())
        };
        self.tally.answer("transaction", work).await;
    }

    async fn settings(&self, tx: &mut PgTransaction) -> Result<(String, String), PgError> {
        let row = tx.query_one(&SETTINGS, &[]).await?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }

    /// A transaction that is rolled back, or simply dropped.
    async fn changes_its_mind(&self, who: i32, round: i32) {
        let work = async {
            let mut tx = self.postgres.begin().await?;
            let payload = Json(serde_json::Value::Null);
            tx.execute(&WRITE, &[&who, &(-1 - round), &mood(round), &payload]).await?;
            if round % 2 == 0 { tx.rollback().await } else { Ok(()) }
        };
        self.tally.answer("rollback", work).await;
    }

    async fn finds_no_settings_of_others(&self) {
        let answer = self.tally.answer("settings", self.postgres.query_one(&SETTINGS, &[])).await;
        let Some(row) = answer else {
            return;
        };
        let found = |row: &Row| {
            let name: String = row.try_get(2)?;
            let service = name.split('/').next().unwrap_or_default().to_owned();
            Ok((row.try_get(0)?, row.try_get(1)?, service))
        };
        let right = (String::new(), "0".to_owned(), self.service.clone());
        self.compare("settings", &row, found, right);
    }

    /// All of them, once, because there are some hundred.
    async fn finds_the_settings_of_the_server(&self) {
        let answer = self
            .tally
            .answer("changed settings", self.postgres.query_one(&CHANGED_SETTINGS, &[]))
            .await;
        if let Some(row) = answer {
            self.compare("changed settings", &row, |row| row.try_get(0), None::<String>);
        }
        let answer = self.tally.answer("SHOW ALL", self.postgres.query(&SHOW_ALL, &[])).await;
        if let Some(rows) = answer {
            self.tally.rows(rows.len());
            let timeouts: Vec<(&str, &str)> = rows
                .iter()
                .map(|row| (row.get(0), row.get(1)))
                .filter(|(name, _)| matches!(*name, "lock_timeout" | "statement_timeout"))
                .collect();
            let right = vec![("lock_timeout", "0"), ("statement_timeout", "0")];
            self.tally.check("SHOW ALL", timeouts, right);
        }
    }

    /// Compares a row with what it should be. A row that cannot be read is wrong, too.
    fn compare<'r, T: PartialEq + std::fmt::Debug>(
        &self,
        question: &str,
        row: &'r Row,
        read: impl FnOnce(&'r Row) -> Result<T, tokio_postgres::Error>,
        right: T,
    ) {
        let found = read(row).map_err(|error| error.to_string());
        self.tally.check(question, found, Ok(right));
    }
}

fn mood(number: i32) -> &'static str {
    MOOD_NAMES[usize::try_from(number % 3).expect("it is not negative")]
}

fn note(id: i32) -> String {
    format!("note {id}")
}
