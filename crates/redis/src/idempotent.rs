//! Which commands may be sent again when their answer was lost.
//!
//! A command is in the table if running it twice leaves the server in the state in which running it
//! once leaves it. Its second answer may tell of the second run: `DEL` then counts nothing, and a
//! relative time to live starts anew.
//!
//! Source: the pages of the commands on redis.io, read for "what if it runs twice"; the test
//! `every_command_of_the_table_may_run_twice` runs each of them twice against a real server and
//! compares what is stored. Commands that block, that answer by chance or that return what they
//! remove are left out, and so is `XADD`: its second run adds a second entry.

/// A command as the shared handle sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    pub(crate) repeatable: bool,
}

impl Spec {
    /// A command that the table has, with the keywords it is sent with. Evaluated while compiling:
    /// a command that may not run twice does not compile.
    pub(crate) const fn repeatable(name: &'static str, keywords: &[&str]) -> Self {
        assert!(may_repeat(name, keywords), "not in the table of repeatable commands");
        Self { name, repeatable: true }
    }

    /// A command that is sent once.
    pub(crate) const fn once(name: &'static str) -> Self {
        Self { name, repeatable: false }
    }
}

/// Conditions that make a second run differ from the first: it sees what the first one did.
const CONDITIONS: &[&str] = &["NX", "XX", "GT", "LT", "GET", "INCR"];

/// Commands of the table, and the keywords with which they may not run twice.
pub(crate) const TABLE: &[(&str, &[&str])] = &[
    // Reads.
    ("PING", &[]),
    ("ECHO", &[]),
    ("TIME", &[]),
    ("EXISTS", &[]),
    ("TYPE", &[]),
    ("TTL", &[]),
    ("PTTL", &[]),
    ("GET", &[]),
    ("MGET", &[]),
    ("STRLEN", &[]),
    ("GETRANGE", &[]),
    ("HGET", &[]),
    ("HMGET", &[]),
    ("HGETALL", &[]),
    ("HEXISTS", &[]),
    ("HLEN", &[]),
    ("LLEN", &[]),
    ("LINDEX", &[]),
    ("LRANGE", &[]),
    ("SCARD", &[]),
    ("SISMEMBER", &[]),
    ("SMEMBERS", &[]),
    ("ZCARD", &[]),
    ("ZSCORE", &[]),
    ("ZRANK", &[]),
    ("ZCOUNT", &[]),
    ("ZRANGE", &[]),
    ("XLEN", &[]),
    ("XRANGE", &[]),
    // Writes whose second run finds its work done.
    ("SET", CONDITIONS),
    ("SETEX", &[]),
    ("PSETEX", &[]),
    ("MSET", &[]),
    ("SETRANGE", &[]),
    ("DEL", &[]),
    ("UNLINK", &[]),
    ("EXPIRE", CONDITIONS),
    ("PEXPIRE", CONDITIONS),
    ("EXPIREAT", CONDITIONS),
    ("PEXPIREAT", CONDITIONS),
    ("PERSIST", &[]),
    ("HSET", &[]),
    ("HDEL", &[]),
    ("LSET", &[]),
    ("SADD", &[]),
    ("SREM", &[]),
    ("ZADD", CONDITIONS),
    ("ZREM", &[]),
    ("XDEL", &[]),
    ("XACK", &[]),
];

/// Whether `name`, sent with `keywords`, may run twice.
pub(crate) const fn may_repeat(name: &str, keywords: &[&str]) -> bool {
    let mut index = 0;
    while index < TABLE.len() {
        let (known, forbidden) = TABLE[index];
        if same(known, name) {
            return !any_of(keywords, forbidden);
        }
        index += 1;
    }
    false
}

const fn any_of(keywords: &[&str], forbidden: &[&str]) -> bool {
    let mut keyword = 0;
    while keyword < keywords.len() {
        let mut index = 0;
        while index < forbidden.len() {
            if same(keywords[keyword], forbidden[index]) {
                return true;
            }
            index += 1;
        }
        keyword += 1;
    }
    false
}

const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut index = 0;
    while index < one.len() {
        if one[index] != other[index] {
            return false;
        }
        index += 1;
    }
    true
}

#[cfg(test)]
mod tests;
