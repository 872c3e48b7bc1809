//! The idle connections in bb8, and a look through all of them.

use bb8_postgres::bb8::{self, PooledConnection};
use forebay_pooling::{Gate, GatePermit};
use futures_util::FutureExt;
use parking_lot::RwLock;

use crate::lifecycle::manager::Manager;

/// A connection taken out of bb8; dropped, it goes back.
pub(crate) type Taken = PooledConnection<'static, Manager>;
/// Lets callers in, and has a connection that comes back go to the next of them without bb8.
pub(crate) type PgGate = Gate<Taken>;
/// The right to use a connection.
pub(crate) type PgPermit = GatePermit<Taken>;

/// Guards the idle connections: whoever looks through them has all of them out for a moment, in
/// which a caller would see none and have one opened that nobody needs.
#[derive(Debug, Default)]
pub(crate) struct Shelf(RwLock<()>);

impl Shelf {
    /// The idle connection used last, if there is one; otherwise bb8 has been told to open one.
    pub(crate) fn take(&self, bb8: &bb8::Pool<Manager>) -> Option<Taken> {
        let _shelf = self.0.read();
        // bb8 gives no errors of its own, and its timeout is longer than any of ours.
        bb8.get_owned().now_or_never()?.ok()
    }

    /// Shows all idle connections to `choose`, the longest unused first. What it leaves goes back,
    /// and so that the one used last is again the first to be taken.
    pub(crate) fn look_through<R>(
        &self,
        bb8: &bb8::Pool<Manager>,
        choose: impl FnOnce(&mut Vec<Taken>) -> R,
    ) -> R {
        let _shelf = self.0.write();
        let count = bb8.state().idle_connections;
        let take = |_| bb8.get_owned().now_or_never()?.ok();
        let mut idle: Vec<Taken> = (0..count).map_while(take).collect();
        // Only what `choose` closes is closed now.
        idle.iter_mut().for_each(|connection| connection.spare());
        idle.sort_by_key(|connection| connection.used_at());
        let chosen = choose(&mut idle);
        idle.into_iter().for_each(drop);
        chosen
    }
}
