//! Which keys are read most, kept in Redis beyond the life of a process.
//!
//! A hint and nothing else: what is loaded because of it is read as any other key is.

use std::time::Duration;

use forebay_redis::{RedisError, Reply, ScriptCall};

use super::{Remote, Space, millis};

/// How long it is known what was read most after nobody reads any more: a long weekend.
const HOT_TTL: Duration = Duration::from_secs(4 * 24 * 3600);
/// After this time a read counts for half.
const HALF_LIFE: Duration = Duration::from_secs(60);
/// Longest text of a key that is kept, in bytes.
const KEY_BYTES_MAX: usize = 256;

impl Remote {
    /// Adds to the keys that are read most, of which `kept` are kept.
    pub(crate) async fn heat(&self, space: Space, kept: usize, reads: &[(u32, String)]) {
        let [faded, hot] = space.hot_keys();
        let call = ScriptCall::new().key(hot).key(faded);
        let call = call.arg(kept.to_string()).arg(millis(HOT_TTL)).arg(millis(HALF_LIFE));
        let short = reads.iter().filter(|(_, key)| key.len() <= KEY_BYTES_MAX);
        let call = short.fold(call, |call, (reads, key)| call.arg(reads.to_string()).arg(key));
        // Next time will do as well.
        self.counted("heat", self.patient.eval(&self.heat, &call).await);
    }

    /// The keys that are read most, the first first.
    pub(crate) async fn hottest(
        &self,
        space: Space,
        count: usize,
    ) -> Result<Vec<String>, RedisError> {
        let [_, hot] = space.hot_keys();
        let call = ScriptCall::new().key(hot).arg(count.to_string());
        let Reply::List(keys) = self.patient.eval(&self.hottest, &call).await? else {
            return Ok(Vec::new());
        };
        let text = |reply: Reply| match reply {
            Reply::Bytes(text) => String::from_utf8(text.to_vec()).ok(),
            Reply::Nil | Reply::Int(_) | Reply::Status(_) | Reply::List(_) | Reply::Other(_) => {
                None
            }
        };
        Ok(keys.into_iter().filter_map(text).collect())
    }
}
