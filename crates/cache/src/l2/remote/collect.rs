//! The collection of a list in L2: a number beside its epoch, which every page carries.
//!
//! A change of the table takes the number away, in the step that tells the data set of the change.
//! Whoever wants to fill a page then draws a new one. So the pages with the number in force were read
//! after it was drawn, and it was drawn after every change that the data set has been told of.

use forebay_redis::{RedisError, Reply, ScriptCall};

use super::{Epoch, Remote, Space, worked};

/// Length of a number.
const BYTES: usize = 16;

/// The number in the value of the key, if it is one: after a change it is a tombstone.
pub(super) fn parse(stored: &[u8]) -> Option<Epoch> {
    if stored.len() == BYTES { Epoch::parse(stored) } else { None }
}

impl Remote {
    /// The number in force, drawn if there is none.
    pub(super) async fn collect(&self, space: Space) -> Option<Epoch> {
        let call = self.breaker.call()?;
        let drawn = ScriptCall::new().key(space.collection_key()).arg(Epoch::fresh().as_bytes());
        let answer = self.quick.eval(&self.collect, &drawn).await;
        worked(call, &answer);
        match self.counted("collect", answer)? {
            Reply::Bytes(stored) => parse(&stored),
            Reply::Nil | Reply::Int(_) | Reply::Status(_) | Reply::List(_) | Reply::Other(_) => {
                None
            }
        }
    }

    /// What an entry must carry to be live, for an operator; `None` if there is no such number, so
    /// that no entry is. Asked of Redis: this process may know a new epoch later than it is in force.
    pub(crate) async fn in_force(&self, space: Space) -> Result<Option<Epoch>, RedisError> {
        Ok(self.patient.get(&space.fence_key()).await?.and_then(|stored| parse(&stored)))
    }
}
