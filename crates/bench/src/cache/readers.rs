//! Readers that ask at a pace while something happens to the stores.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cache::ms_since;
use crate::cache::record::Key;
use crate::cache::replica::Node;
use crate::cache::setup::read;

/// How long a reader rests after each answer.
pub const PAUSE: Duration = Duration::from_millis(5);

/// What one reader saw.
#[derive(Default)]
pub struct Seen {
    /// Milliseconds of each read, in their order.
    pub times: Vec<f64>,
    /// Reads that were not answered.
    pub failed: usize,
}

/// Reads these keys in turn until it is over.
pub async fn reader(node: Node, keys: Vec<Key>, over: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    for key in keys.iter().cycle() {
        if over.load(Ordering::SeqCst) {
            break;
        }
        let asked = Instant::now();
        let answer = read(&node, key).await;
        seen.times.push(ms_since(asked));
        seen.failed += usize::from(answer.is_err());
        tokio::time::sleep(PAUSE).await;
    }
    seen
}
