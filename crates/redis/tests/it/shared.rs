//! Typed commands on shared lanes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_pooling::Deadline;
use forebay_redis::{RedisError, RedisPool, Reply, Script, ScriptCall};
use forebay_testkit::{PrivateRedis, redis_config, redis_prefix, redis_url};
use futures_util::future::join_all;

use crate::{eventually, pool};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn commands_give_typed_answers() {
    let shared = pool().shared();
    assert_eq!(shared.get("a").await.expect("get"), None);
    shared.set_px("a", "1", HOUR).await.expect("set");
    shared.set_px("b", b"\xff\x00", HOUR).await.expect("set");
    assert_eq!(shared.get("b").await.expect("get"), Some(Bytes::from_static(b"\xff\x00")));
    let values = shared.mget(&["b", "none", "a"]).await.expect("mget");
    assert_eq!(values, [Some(Bytes::from_static(b"\xff\x00")), None, Some("1".into())]);
    assert_eq!(shared.mget::<&str>(&[]).await.expect("mget of nothing"), []);
    let left = shared.pttl("a").await.expect("pttl").expect("expires");
    assert!(left <= HOUR && left > HOUR - Duration::from_secs(60), "{left:?}");
    assert_eq!(shared.del(&["a", "none"]).await.expect("del"), 1);
    assert_eq!(shared.pttl("a").await.expect("pttl"), None);
    assert_eq!(shared.publish("nobody listens", "x").await.expect("publish"), 0);
}

#[tokio::test]
async fn keys_carry_the_prefix() {
    let prefix = redis_prefix();
    let inside = RedisPool::new(&redis_config(&redis_url(), &prefix)).expect("settings").shared();
    let outside = RedisPool::new(&redis_config(&redis_url(), "")).expect("settings").shared();
    inside.set_px("k", "v", HOUR).await.expect("set");
    assert_eq!(outside.get(&format!("{prefix}k")).await.expect("get"), Some("v".into()));
    let echo = Script::new("echo", "return KEYS[1]");
    let reply = inside.eval(&echo, &ScriptCall::new().key("k")).await.expect("eval");
    assert_eq!(reply, Reply::Bytes(Bytes::from(format!("{prefix}k"))));
}

#[tokio::test]
async fn scripts_are_found_again_after_the_server_forgot_them() {
    let server = PrivateRedis::start();
    let pool = RedisPool::new(&redis_config(&server.url(), "p:")).expect("settings");
    let shared = pool.shared();
    let add = Script::new("add", "return redis.call('INCRBY', KEYS[1], ARGV[1])");
    let call = |amount: &str| ScriptCall::new().key("n").arg(amount);
    assert_eq!(shared.eval(&add, &call("1")).await.expect("unknown script"), Reply::Int(1));
    assert_eq!(shared.eval(&add, &call("1")).await.expect("known script"), Reply::Int(2));
    let flush = Script::new("flush", "return redis.call('SCRIPT', 'FLUSH')");
    // A script may not forget scripts; a lease may tell the server to.
    assert!(matches!(
        shared.eval(&flush, &ScriptCall::new()).await,
        Err(RedisError::Server { .. })
    ));
    let mut lease = pool.dedicated().await.expect("lease");
    let forget = forebay_redis::Command::new("SCRIPT").arg("FLUSH");
    lease.call(&forget, Duration::from_secs(5)).await.expect("flush");
    assert_eq!(shared.eval(&add, &call("1")).await.expect("forgotten"), Reply::Int(3));
    lease.call(&forget, Duration::from_secs(5)).await.expect("flush");
    let many = shared.eval_many(&add, &[call("1"), call("not a number"), call("2")]).await;
    let many = many.expect("pipeline");
    assert_eq!(many[0].as_ref().expect("first"), &Reply::Int(4));
    assert!(matches!(many[1], Err(RedisError::Server { .. })), "{:?}", many[1]);
    assert_eq!(many[2].as_ref().expect("third"), &Reply::Int(6));
}

/// Fails if a cancelled command shifts the answers of those behind it.
#[tokio::test]
async fn cancelled_callers_do_not_disturb_the_answers_of_others() {
    let pool = pool();
    let shared = pool.shared();
    for index in 0..50 {
        shared.set_px(&format!("k{index}"), index.to_string(), HOUR).await.expect("set");
    }
    let rounds = (0..2000_u64).map(|round| {
        let shared = shared.clone();
        async move {
            let key = format!("k{}", round % 50);
            if round % 3 == 0 {
                // Polled once, which sends it or nearly so, then dropped.
                let mut get = Box::pin(shared.get(&key));
                let _ = futures_util::poll!(&mut get);
                return;
            }
            let value = shared.get(&key).await.expect("get");
            assert_eq!(value, Some((round % 50).to_string().into()));
        }
    });
    join_all(rounds).await;
    eventually("all permits are back", async || pool.stats().command_queue_length == 0).await;
}

/// Fails when a message may be handed to the driver while another one is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_of_one_task_keep_their_order() {
    let pool = pool();
    // Counts how often a smaller number comes after a larger one.
    let script = "if tonumber(ARGV[1]) < tonumber(redis.call('GET', KEYS[1]) or '-1') then \
                  redis.call('INCR', KEYS[2]) end redis.call('SET', KEYS[1], ARGV[1])";
    let script = Arc::new(Script::new("follow", script));
    let call = |task: i32, index: i32| {
        let last = format!("last:{task}");
        ScriptCall::new().key(last).key("overtaken").arg(index.to_string())
    };
    // Once, so that the server knows the script; and no lane may take over from another one later.
    pool.shared().eval(&script, &call(-1, 0)).await.expect("eval");
    eventually("all lanes are ready", async || {
        pool.stats().lanes.iter().all(|lane| lane.status == "ready")
    })
    .await;
    // Several tasks, so that one hands over while another one asks.
    let tasks = (0..4).map(|task| {
        let (shared, script) = (pool.shared(), Arc::clone(&script));
        tokio::spawn(async move {
            for chunk in 0..200 {
                let calls: Vec<_> = (0..50).map(|index| call(task, chunk * 50 + index)).collect();
                let answers = join_all(calls.iter().map(|call| shared.eval(&script, call))).await;
                assert!(answers.iter().all(Result::is_ok));
            }
        })
    });
    assert!(join_all(tasks).await.iter().all(Result::is_ok));
    let overtaken = pool.shared().get("overtaken").await.expect("get");
    assert_eq!(overtaken, None, "commands were overtaken");
}

#[tokio::test]
async fn statistics_tell_the_life_of_the_lanes() {
    let pool = pool();
    let before = pool.stats();
    assert_eq!((before.connected, before.status), (false, "wait"));
    pool.ready().await.expect("ready");
    let ready = pool.stats();
    assert_eq!((ready.connected, ready.status, ready.reconnects), (true, "ready", 0));
    pool.drain(Deadline::after(Duration::from_secs(5))).await;
    let after = pool.stats();
    assert_eq!((after.connected, after.status), (false, "end"));
    assert!(matches!(pool.shared().ping().await, Err(RedisError::Draining)));
    assert!(matches!(pool.dedicated().await, Err(RedisError::Draining)));
}
