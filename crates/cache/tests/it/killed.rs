//! A writer that is killed: before its commit, before it hears of it, before anybody else does.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use forebay_cache::Loader;
use forebay_postgres::{PgPool, Sql};
use forebay_testkit::{PrivateRedis, postgres_config};
use tokio::time::Instant;

use crate::races::gate::{Gate, Side};
use crate::races::resp::Words;
use crate::races::tap::Tap;
use crate::store::{Row, Store};
use crate::tail::{BOUND, config};
use crate::{Replica, entity_config, eventually};

/// Environment of the writer: URLs, what it does before it waits to be killed, and a folder for signs.
const DATABASE: &str = "FOREBAY_TEST_KILLED_WRITER";
const REDIS: &str = "FOREBAY_TEST_KILLED_WRITER_REDIS";
const GAP: &str = "FOREBAY_TEST_KILLED_WRITER_GAP";
const SIGNS: &str = "FOREBAY_TEST_KILLED_WRITER_SIGNS";

const UPDATE: Sql = Sql::new("UPDATE rows", "UPDATE rows SET text = 'new' WHERE name = $1");

/// How far the writer has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gap {
    /// Row and outbox are written, and not committed.
    Uncommitted,
    /// They are committed, and the writer does not know.
    Unanswered,
    /// It knows and has told nobody.
    Untold,
    /// What it tells Redis is on its way, and never arrives.
    OnItsWay,
    /// Redis has executed it, and the writer does not know.
    Unconfirmed,
}

impl Gap {
    const ALL: [Self; 5] =
        [Self::Uncommitted, Self::Unanswered, Self::Untold, Self::OnItsWay, Self::Unconfirmed];

    /// Also the key of the row that is changed.
    fn number(self) -> u64 {
        let at = Self::ALL.iter().position(|gap| *gap == self).expect("one of them");
        u64::try_from(at).expect("small")
    }
}

/// A file that one process makes and the other waits for.
fn sign(signs: &Path, name: &str) -> PathBuf {
    signs.join(name)
}

async fn seen(signs: &Path, name: &str) {
    let sign = sign(signs, name);
    eventually(&format!("the sign {name}"), async || sign.exists()).await;
}

fn give(signs: &Path, name: &str) {
    std::fs::write(sign(signs, name), name).expect("a sign");
}

/// Not a test by itself: the writer, as a process of its own, which is killed where it stands.
#[tokio::test]
async fn the_writer() {
    let Ok(url) = std::env::var(DATABASE) else { return };
    let variable = |name| std::env::var(name).expect("an environment");
    let signs = PathBuf::from(variable(SIGNS));
    let number: u64 = variable(GAP).parse().expect("a number");
    let gap = Gap::ALL.into_iter().find(|gap| gap.number() == number).expect("a gap");
    let postgres = PgPool::new(&postgres_config(&url), "killed-writer").expect("settings");
    let store = Store::on(postgres.clone(), None);
    match gap {
        Gap::Uncommitted | Gap::Unanswered => {
            let mut tx = postgres.begin().await.expect("a transaction");
            tx.execute(&UPDATE, &[&number.to_string()]).await.expect("written");
            give(&signs, "written");
            if gap == Gap::Unanswered {
                seen(&signs, "commit").await;
                drop(tx.commit().await);
                panic!("the commit was answered");
            }
            std::future::pending().await
        }
        Gap::Untold => {
            store.put(number, "new").await;
            give(&signs, "committed");
        }
        Gap::OnItsWay | Gap::Unconfirmed => {
            let own = Replica::with(&variable(REDIS), "", &store, &config(), &entity_config());
            let own = own.l2_in_use(&store).await;
            give(&signs, "ready");
            seen(&signs, "write").await;
            let version = store.put(number, "new").await;
            own.rows.invalidate(&[(number, version)]).await;
        }
    }
    std::future::pending().await
}

/// The servers, those who read, and the writer.
struct Rig {
    store: Store,
    server: PrivateRedis,
    replicas: [Replica; 2],
}

impl Rig {
    /// Everybody holds the row of each gap.
    async fn start() -> Self {
        let server = PrivateRedis::start();
        let store = Store::new().await;
        let new = || Replica::with(&server.url(), "", &store, &config(), &entity_config());
        let replicas = [new().l2_in_use(&store).await, new().l2_in_use(&store).await];
        for gap in Gap::ALL {
            store.put(gap.number(), "old").await;
            for replica in &replicas {
                assert_eq!(replica.get(gap.number()).await.as_deref(), Some("old"));
            }
        }
        Self { store, server, replicas }
    }

    /// Starts a writer and kills it in its gap. When the change was known to be committed.
    async fn kill_in(&self, gap: Gap) -> Instant {
        let signs = std::env::temp_dir().join(format!("killed-{}-{gap:?}", std::process::id()));
        std::fs::create_dir_all(&signs).expect("a folder");
        let gate = Gate::start(&self.server.url()).await;
        let (tap, database) = Tap::of(self.store.url()).await;
        let side = if gap == Gap::OnItsWay { Side::Before } else { Side::After };
        let key = gap.number();
        let mut writer = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "killed::the_writer", "--nocapture"])
            .env(DATABASE, database)
            .env(REDIS, gate.url())
            .env(GAP, key.to_string())
            .env(SIGNS, &signs)
            .stdout(Stdio::null())
            .spawn()
            .expect("a process");
        match gap {
            Gap::Uncommitted => seen(&signs, "written").await,
            Gap::Unanswered => {
                seen(&signs, "written").await;
                tap.mute();
                give(&signs, "commit");
                eventually("it is committed", async || self.is_committed(key).await).await;
            }
            Gap::Untold => seen(&signs, "committed").await,
            Gap::OnItsWay | Gap::Unconfirmed => {
                seen(&signs, "ready").await;
                let telling = gate.stop(side, move |words| tells_of(words, key));
                give(&signs, "write");
                telling.reached(&format!("{gap:?}")).await;
            }
        }
        let committed = Instant::now();
        kill(&mut writer);
        std::fs::remove_dir_all(&signs).expect("removed");
        committed
    }

    async fn is_committed(&self, key: u64) -> bool {
        let rows = Loader::<Row>::load_many(&self.store, vec![key]).await.expect("rows");
        rows.iter().any(|(_, row)| row.text == "new")
    }

    /// Asserts that every replica knows of the change within the bound.
    async fn all_know(&self, key: u64, committed: Instant) {
        for replica in &self.replicas {
            loop {
                let began = Instant::now();
                if replica.get(key).await.as_deref() == Some("new") {
                    break;
                }
                let late = began - committed;
                assert!(late <= BOUND, "stale {late:?} after the writer died");
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        }
    }
}

/// SIGKILL, and nothing else has ended it.
fn kill(writer: &mut Child) {
    assert!(writer.try_wait().expect("a child").is_none(), "it waits to be killed");
    writer.kill().expect("killed");
    let ended = writer.wait().expect("dead");
    assert_eq!(ended.signal(), Some(9), "{ended:?}");
}

/// Whether a command tells Redis of a change of this key.
fn tells_of(words: &Words, key: u64) -> bool {
    let entry = format!("cache:row:3:{key}").into_bytes();
    words.contains(&entry) && words.iter().any(|word| word == b"cache-log")
}

/// Fails without the tail: nobody is left who could announce the change.
#[tokio::test]
async fn a_change_outlives_its_writer() {
    let rig = Rig::start().await;
    let committed = rig.kill_in(Gap::Untold).await;
    rig.all_know(Gap::Untold.number(), committed).await;
    let took = committed.elapsed();
    crate::report(&format!("seen by both within {took:?} of the writer's death"));
}

/// Fails without the tail: in most of the gaps nobody is left who could announce the change.
#[tokio::test]
async fn wherever_its_writer_is_killed_a_committed_change_is_seen() {
    let rig = Rig::start().await;
    for gap in Gap::ALL {
        let committed = rig.kill_in(gap).await;
        let is_committed = rig.is_committed(gap.number()).await;
        assert_eq!(is_committed, gap != Gap::Uncommitted, "{gap:?}");
        if is_committed {
            rig.all_know(gap.number(), committed).await;
            let took = committed.elapsed();
            crate::report(&format!("killed when {gap:?}: seen by both within {took:?}"));
        }
    }
    // What was rolled back with its writer is not seen, now that later changes are.
    for replica in &rig.replicas {
        assert_eq!(replica.get(Gap::Uncommitted.number()).await.as_deref(), Some("old"));
    }
}
