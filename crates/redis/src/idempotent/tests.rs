//! The table against a real server.

#![expect(clippy::print_stdout, reason = "the figures of a test are for whoever reads its output")]

use std::time::Duration;

use forebay_testkit::{PrivateRedis, redis_config};

use super::{Spec, TABLE, may_repeat};
use crate::{Command, DedicatedRedis, RedisPool, Reply};

/// What is stored before each command runs.
const STORED: &[&[&str]] = &[
    &["SET", "text", "0123456789"],
    &["HSET", "hash", "a", "1", "b", "2"],
    &["RPUSH", "list", "a", "b", "c"],
    &["SADD", "set", "a", "b"],
    &["ZADD", "sorted", "1", "a", "2", "b"],
    &["XADD", "stream", "1-1", "a", "1"],
    &["XGROUP", "CREATE", "stream", "group", "0"],
    &["XREADGROUP", "GROUP", "group", "me", "STREAMS", "stream", ">"],
];

/// One use of each command of the table.
const USES: &[&[&str]] = &[
    &["PING"],
    &["ECHO", "a"],
    &["TIME"],
    &["EXISTS", "text"],
    &["TYPE", "text"],
    &["TTL", "text"],
    &["PTTL", "text"],
    &["GET", "text"],
    &["MGET", "text", "none"],
    &["STRLEN", "text"],
    &["GETRANGE", "text", "1", "3"],
    &["HGET", "hash", "a"],
    &["HMGET", "hash", "a", "c"],
    &["HGETALL", "hash"],
    &["HEXISTS", "hash", "a"],
    &["HLEN", "hash"],
    &["LLEN", "list"],
    &["LINDEX", "list", "1"],
    &["LRANGE", "list", "0", "-1"],
    &["SCARD", "set"],
    &["SISMEMBER", "set", "a"],
    &["SMEMBERS", "set"],
    &["ZCARD", "sorted"],
    &["ZSCORE", "sorted", "a"],
    &["ZRANK", "sorted", "a"],
    &["ZCOUNT", "sorted", "0", "9"],
    &["ZRANGE", "sorted", "0", "-1"],
    &["XLEN", "stream"],
    &["XRANGE", "stream", "-", "+"],
    &["SET", "text", "new", "PX", "100000"],
    &["SETEX", "text", "100", "new"],
    &["PSETEX", "text", "100000", "new"],
    &["MSET", "text", "new", "other", "new"],
    &["SETRANGE", "text", "3", "abc"],
    &["DEL", "text", "hash"],
    &["UNLINK", "text", "hash"],
    &["EXPIRE", "text", "100"],
    &["PEXPIRE", "text", "100000"],
    &["EXPIREAT", "text", "33177117420"],
    &["PEXPIREAT", "text", "33177117420000"],
    &["PERSIST", "text"],
    &["HSET", "hash", "a", "9", "c", "3"],
    &["HDEL", "hash", "a"],
    &["LSET", "list", "1", "new"],
    &["SADD", "set", "c"],
    &["SREM", "set", "a"],
    &["ZADD", "sorted", "9", "a", "3", "c"],
    &["ZREM", "sorted", "a"],
    &["XDEL", "stream", "1-1"],
    &["XACK", "stream", "group", "1-1"],
];

/// Commands that nobody may send again, for the check to prove itself on.
const NOT_REPEATABLE: &[&[&str]] = &[
    &["INCR", "number"],
    &["APPEND", "text", "a"],
    &["RPUSH", "list", "d"],
    &["LPOP", "list"],
    &["ZINCRBY", "sorted", "1", "a"],
    &["XADD", "stream", "*", "a", "1"],
];

struct Server {
    lease: DedicatedRedis,
    _server: PrivateRedis,
}

impl Server {
    async fn run(&mut self, words: &[&'static str]) -> Reply {
        let (name, arguments) = words.split_first().expect("a name");
        let command = arguments.iter().fold(Command::new(name), Command::arg);
        let answer = self.lease.call(&command, Duration::from_secs(10)).await;
        answer.unwrap_or_else(|error| panic!("{words:?}: {error:?}"))
    }

    /// The serialized value of every key, and whether it expires.
    async fn state(&mut self) -> Vec<(Reply, bool)> {
        let mut state = Vec::new();
        for key in ["text", "hash", "list", "set", "sorted", "stream", "number", "other"] {
            let value = self.run(&["DUMP", key]).await;
            let expires = self.run(&["TTL", key]).await;
            state.push((value, expires != Reply::Int(-1) && expires != Reply::Int(-2)));
        }
        state.push((self.run(&["XPENDING", "stream", "group"]).await, false));
        state
    }

    /// Whether the second run leaves what the first one left.
    async fn may_run_twice(&mut self, words: &[&'static str]) -> bool {
        self.run(&["FLUSHALL"]).await;
        for stored in STORED {
            self.run(stored).await;
        }
        self.run(words).await;
        let once = self.state().await;
        self.run(words).await;
        self.state().await == once
    }
}

/// Fails when a command is put into the table whose second run changes anything, and when one has
/// no use here that shows it.
#[tokio::test]
async fn every_command_of_the_table_may_run_twice() {
    let server = PrivateRedis::start();
    let pool = RedisPool::new(&redis_config(&server.url(), "")).expect("settings");
    let lease = pool.dedicated().await.expect("lease");
    let mut server = Server { lease, _server: server };
    for (name, _) in TABLE {
        let words = USES.iter().find(|words| words[0] == *name);
        let words = words.unwrap_or_else(|| panic!("{name} has no use in this test"));
        assert!(server.may_run_twice(words).await, "the second run of {words:?} changes something");
    }
    for words in NOT_REPEATABLE {
        assert!(!server.may_run_twice(words).await, "the check misses {words:?}");
        assert!(!may_repeat(words[0], &[]), "{words:?}");
    }
    println!("{} commands may run twice", TABLE.len());
}

#[test]
fn conditions_keep_a_command_from_running_twice() {
    assert!(may_repeat("SET", &["PX"]));
    for condition in ["NX", "XX", "GET"] {
        assert!(!may_repeat("SET", &["PX", condition]), "{condition}");
    }
    assert!(!may_repeat("ZADD", &["INCR"]));
    assert!(!Spec::once("PUBLISH").repeatable);
}
