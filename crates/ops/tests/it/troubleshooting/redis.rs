//! What a `RedisPool` says when Redis refuses, hangs or is gone.

use std::time::Duration;

use forebay_config::RedisConfig;
use forebay_pooling::Deadline;
use forebay_redis::{RedisError, RedisPool, Script, ScriptCall};
use forebay_testkit::{PrivateRedis, redis_config, redis_url};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{printed, quotes};

const SHORT: Duration = Duration::from_millis(150);

fn pool(url: &str, change: impl FnOnce(&mut RedisConfig)) -> RedisPool {
    let mut config = redis_config(url, "");
    change(&mut config);
    RedisPool::new(&config).expect("settings")
}

async fn refused(server: &PrivateRedis) -> RedisError {
    let pool = pool(&server.url(), |_| {});
    Deadline::after(Duration::from_secs(2)).scope(pool.ready()).await.expect_err("a refusal")
}

#[tokio::test]
async fn the_server_is_gone_or_hangs() {
    let heading = "Connection timeout";
    let server = PrivateRedis::start();
    let redis = pool(&server.url(), |_| {});
    redis.ready().await.expect("it runs");
    server.stop();
    let error = redis.shared().with_timeout(SHORT).get("k").await.expect_err("it hangs");
    assert!(matches!(error, RedisError::Timeout { .. }), "{error:?}");
    quotes(heading, &printed(&error));
    let script = Script::new("increment", "return redis.call('INCR', KEYS[1])");
    let counting = redis.shared().with_timeout(SHORT);
    let error = counting.eval(&script, &ScriptCall::new().key("n")).await;
    quotes("The outcome is unknown", &printed(&error.expect_err("it hangs")));
    let late = pool(&server.url(), |config| config.connect_timeout = SHORT);
    let error = late.ready().await.expect_err("nothing is answered");
    quotes(heading, &printed(&error));
    server.cont();
    server.kill();
    quotes(heading, &printed(&refused(&server).await));
}

#[tokio::test]
async fn the_server_has_too_many_clients() {
    let server = PrivateRedis::start_with(&[("maxclients", "4")]);
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(TcpStream::connect(("127.0.0.1", server.port())).await.expect("accepted"));
    }
    let said = printed(&refused(&server).await);
    // Redis says why and hangs up, and which of the two arrives first is chance.
    if !said.contains("max number of clients reached") {
        quotes("Too many connections", &said);
    }
}

#[tokio::test]
async fn the_offline_queue_is_full() {
    let server = PrivateRedis::start();
    let redis = pool(&server.url(), |config| config.offline_queue_max = 0);
    server.stop();
    let error = redis.shared().get("k").await.expect_err("no command may wait");
    assert!(matches!(error, RedisError::Shed { .. }), "{error:?}");
    quotes("Too many connections", &printed(&error));
    server.cont();
}

#[tokio::test]
async fn no_connection_of_ones_own_is_allowed() {
    let url = redis_url();
    let redis = pool(&url, |config| config.dedicated_max = 0);
    let error = redis.dedicated().await.expect_err("there are none");
    assert!(matches!(error, RedisError::NoneDedicated), "{error:?}");
    quotes("There are no dedicated connections", &printed(&error));
}

#[tokio::test]
async fn the_server_wants_a_password_or_takes_no_writes() {
    let server = PrivateRedis::start();
    let mut admin = TcpStream::connect(("127.0.0.1", server.port())).await.expect("accepted");
    admin.write_all(b"CONFIG SET requirepass hunter2\r\n").await.expect("sent");
    let mut answer = [0; 5];
    admin.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"+OK\r\n");
    quotes("Wrong user or password", &printed(&refused(&server).await));
    let replica = PrivateRedis::start_with(&[("replicaof", "127.0.0.1 1")]);
    quotes("READONLY and LOADING", &printed(&refused(&replica).await));
}
