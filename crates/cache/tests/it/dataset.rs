//! Redis answers from other data than it did before: nothing old is served.

use forebay_cache::L2State;
use forebay_postgres::Sql;
use forebay_testkit::{PrivatePostgres, PrivateRedis};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::store::Store;
use crate::tail::{config, never_older_than_the_bound};
use crate::{Replica, entity_config, eventually};

const SNAPSHOT: Sql = Sql::new("SELECT snapshot", "SELECT pg_current_snapshot()::text");

/// One plain command: the connection pool's own leases refuse a server that is a replica.
pub(crate) async fn plain(server: &PrivateRedis, line: &str) -> String {
    let address = ("127.0.0.1", server.port());
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    stream.write_all(format!("{line}\r\nQUIT\r\n").as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("answered");
    String::from_utf8_lossy(&answer).into_owned()
}

/// The server follows one that lost its newest commands, and is promoted again: same port, same run
/// id. The process has nothing to tell and nothing to claim meanwhile, so only the read itself can find
/// out. Fails if marks are not compared.
#[tokio::test]
async fn a_server_that_took_over_older_data_is_found_out() {
    let main = PrivateRedis::start();
    let other = PrivateRedis::start_with(&[("repl-diskless-sync-delay", "0")]);
    // Nobody else writes there.
    let postgres = PrivatePostgres::start_with(&[("autovacuum", "off")]).await;
    let store = Store::at(&postgres.url(), None).await;
    let version = store.put(1, "old").await;
    let a = Replica::new(&main.url(), "", &store).l2_in_use(&store).await;
    a.get(1).await;
    a.l2_version(1, version).await;
    let holds_old =
        async |server: &PrivateRedis| plain(server, "GET cache:row:3:1").await.contains("old");
    plain(&other, &format!("REPLICAOF 127.0.0.1 {}", main.port())).await;
    eventually("the other server has it", async || holds_old(&other).await).await;
    plain(&other, "REPLICAOF NO ONE").await;
    let changed = store.put(1, "new").await;
    a.rows.invalidate(&[(1, changed)]).await;
    a.l2_version(1, changed).await;
    assert!(!holds_old(&main).await, "the change is confirmed");
    // Until the last snapshot is claimed; the next claim is due in ten minutes.
    let now = store.postgres().query_one(&SNAPSHOT, &[]).await.expect("a snapshot");
    let now: String = now.try_get(0).expect("text");
    let claims = async || plain(&main, "GET cache-applied:row:3").await;
    eventually("everything is claimed", async || claims().await.contains(&now)).await;
    plain(&main, &format!("REPLICAOF 127.0.0.1 {}", other.port())).await;
    eventually("the older data is there", async || holds_old(&main).await).await;
    plain(&main, "REPLICAOF NO ONE").await;
    let synchronized = a.cache.stats().l2_state == L2State::Trusted;
    assert!(synchronized, "the process has noticed nothing, or the test is about something else");
    assert_eq!(a.get(1).await.as_deref(), Some("new"));
    let trusted = async || a.cache.stats().l2_state == L2State::Trusted;
    eventually("what was lost is told again", trusted).await;
    eventually("the old value is gone", async || !holds_old(&main).await).await;
}

/// All connections cut, the log trimmed, everything flushed, the server restarted: again and again,
/// with changes by plain SQL that nobody announces. Fails without the tail.
#[tokio::test]
async fn whatever_becomes_of_redis_no_answer_is_older_than_the_bound() {
    let mut server =
        PrivateRedis::start_with(&[("appendonly", "yes"), ("appendfsync", "everysec")]);
    let store = Store::new().await;
    store.put(1, "first").await;
    let new = || Replica::with(&server.url(), "", &store, &config(), &entity_config());
    let replicas = [new().l2_in_use(&store).await, new().l2_in_use(&store).await];
    for round in 0..12 {
        match round % 4 {
            0 => {
                for _ in 0..50 {
                    plain(&server, "CLIENT KILL TYPE normal").await;
                }
            }
            1 => drop(plain(&server, "XTRIM cache-log MAXLEN 0").await),
            2 => drop(plain(&server, "FLUSHALL").await),
            _ => {
                server.kill();
                server.restart();
            }
        }
        never_older_than_the_bound(&replicas, &store).await;
    }
    for replica in &replicas {
        let trusted = async || replica.cache.stats().l2_state == L2State::Trusted;
        eventually("redis is used again", trusted).await;
    }
}
