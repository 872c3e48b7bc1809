//! What goes wrong inside a connection attempt stays inside it.

use bb8_redis::bb8;
use bb8_redis::redis;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::contained;

/// Panics twice, then connects: once for each place of the connection pool.
struct Panicking(AtomicU32);

impl bb8::ManageConnection for Panicking {
    type Connection = ();
    type Error = redis::RedisError;

    async fn connect(&self) -> Result<(), redis::RedisError> {
        contained(async {
            assert!(self.0.fetch_add(1, Ordering::Relaxed) >= 2, "a bug");
            Ok(())
        })
        .await
    }

    async fn is_valid(&self, _connection: &mut ()) -> Result<(), redis::RedisError> {
        Ok(())
    }

    fn has_broken(&self, _connection: &mut ()) -> bool {
        false
    }
}

/// Fails when a panic is not contained: two of them kill a connection pool of two for good, and the
/// third caller waits in vain.
#[tokio::test(start_paused = true)]
async fn panics_while_connecting_do_not_use_up_the_connection_pool() {
    let pool = bb8::Pool::builder()
        .max_size(2)
        .connection_timeout(Duration::from_secs(10))
        .build_unchecked(Panicking(AtomicU32::new(0)));
    let first = pool.get().await;
    assert!(first.is_ok(), "{first:?}");
    let second = pool.get().await;
    assert!(second.is_ok(), "{second:?}");
}
