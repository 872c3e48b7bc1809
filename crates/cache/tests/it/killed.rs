//! A writer that is killed between its commit and its announcement.

use std::process::{Command, Stdio};

use forebay_postgres::PgPool;
use forebay_testkit::{PrivateRedis, postgres_config};
use tokio::time::Instant;

use crate::store::Store;
use crate::tail::{BOUND, config};
use crate::{Replica, entity_config};

const DATABASE: &str = "FOREBAY_TEST_KILLED_WRITER";

/// Not a test by itself: the writer, as a process of its own. It commits, says so, and is killed
/// before it can tell anybody else.
#[tokio::test]
async fn the_writer() {
    let Ok(url) = std::env::var(DATABASE) else { return };
    let postgres = PgPool::new(&postgres_config(&url), "killed-writer").expect("settings");
    let store = Store::on(postgres, None);
    store.put(1, "new").await;
    let committed = std::env::var(format!("{DATABASE}_COMMITTED")).expect("where to say so");
    std::fs::write(committed, "committed").expect("said");
    std::future::pending().await
}

/// Fails without the tail: nobody is left who could announce the change.
#[tokio::test]
async fn a_change_outlives_its_writer() {
    let server = PrivateRedis::start();
    let store = Store::new().await;
    store.put(1, "old").await;
    let new = || Replica::with(&server.url(), "", &store, &config(), &entity_config());
    let replicas = [new().l2_in_use(&store).await, new().l2_in_use(&store).await];
    for replica in &replicas {
        assert_eq!(replica.get(1).await.as_deref(), Some("old"));
    }
    let committed = std::env::temp_dir().join(format!("killed-writer-{}", std::process::id()));
    let mut writer = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "killed::the_writer", "--nocapture"])
        .env(DATABASE, store.url())
        .env(format!("{DATABASE}_COMMITTED"), &committed)
        .stdout(Stdio::null())
        .spawn()
        .expect("a process");
    crate::eventually("the writer commits", async || committed.exists()).await;
    writer.kill().expect("killed");
    let killed = Instant::now();
    writer.wait().expect("dead");
    std::fs::remove_file(&committed).expect("removed");
    for replica in &replicas {
        loop {
            let began = Instant::now();
            if replica.get(1).await.as_deref() == Some("new") {
                break;
            }
            assert!(began <= killed + BOUND, "stale {:?} after the writer died", began - killed);
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
    crate::report(&format!("seen by both within {:?} of the writer's death", killed.elapsed()));
}
