//! Subscriptions: no gap without a sign of it.

use std::time::Duration;

use bytes::Bytes;
use forebay_config::RedisConfig;
use forebay_redis::{Event, RedisPool, Script, ScriptCall, Subscription};
use forebay_testkit::{PrivateRedis, redis_config};

use crate::{eventually, pool};

/// The next event that is not a sign of life.
async fn next(subscription: &mut Subscription) -> Event {
    let next = async {
        loop {
            match subscription.next().await {
                Event::CaughtUp(_) => {}
                event => return event,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), next).await.expect("an event")
}

fn message(text: &'static str) -> Event {
    Event::Message(Bytes::from_static(text.as_bytes()))
}

#[tokio::test]
async fn messages_arrive_before_the_sign_of_life_that_follows_them() {
    let pool = pool();
    let mut subscription = pool.subscribe("news");
    assert_eq!(next(&mut subscription).await, Event::Connected);
    let shared = pool.shared();
    for _ in 0..20 {
        assert_eq!(shared.publish("news", "m").await.expect("publish"), 1);
        let published_at = tokio::time::Instant::now();
        let mut arrived = false;
        loop {
            match subscription.next().await {
                Event::CaughtUp(instant) if instant >= published_at => break,
                Event::Message(_) => arrived = true,
                _ => {}
            }
        }
        assert!(arrived, "caught up without the message");
    }
}

#[tokio::test]
async fn a_restart_shows_as_a_gap_and_messages_arrive_again() {
    let mut server = PrivateRedis::start();
    let pool = RedisPool::new(&redis_config(&server.url(), "")).expect("settings");
    let mut subscription = pool.subscribe("news");
    assert_eq!(next(&mut subscription).await, Event::Connected);
    pool.shared().publish("news", "before").await.expect("publish");
    assert_eq!(next(&mut subscription).await, message("before"));
    server.kill();
    assert_eq!(next(&mut subscription).await, Event::Disconnected);
    server.restart();
    assert_eq!(next(&mut subscription).await, Event::Connected);
    let shared = pool.shared();
    eventually("the lane is back", async || shared.publish("news", "after").await.is_ok()).await;
    assert_eq!(next(&mut subscription).await, message("after"));
}

/// Without the heartbeat a silent server would look like one without news.
#[tokio::test]
async fn a_hanging_server_shows_as_a_gap() {
    let server = PrivateRedis::start();
    let pool = RedisPool::new(&redis_config(&server.url(), "")).expect("settings");
    let mut subscription = pool.subscribe("news");
    assert_eq!(next(&mut subscription).await, Event::Connected);
    server.stop();
    assert_eq!(next(&mut subscription).await, Event::Disconnected);
    server.cont();
    assert_eq!(next(&mut subscription).await, Event::Connected);
}

/// The queue is bounded, and what does not fit is not lost in silence.
#[tokio::test]
async fn a_slow_consumer_sees_a_gap() {
    let server = PrivateRedis::start();
    let pool = RedisPool::new(&redis_config(&server.url(), "")).expect("settings");
    let mut subscription = pool.subscribe("news");
    assert_eq!(next(&mut subscription).await, Event::Connected);
    let flood = Script::new("flood", "for i = 1, 6000 do redis.call('PUBLISH', 'news', i) end");
    pool.shared().eval(&flood, &ScriptCall::new()).await.expect("flood");
    let reconnects = || pool.stats().reconnects;
    eventually("the subscription starts over", async || reconnects() > 0).await;
    let mut messages = 0;
    while next(&mut subscription).await != Event::Disconnected {
        messages += 1;
    }
    assert!((1..6000).contains(&messages), "{messages} messages before the gap");
    assert_eq!(next(&mut subscription).await, Event::Connected);
}

/// A few messages may hold more than many. What is read makes room again.
///
/// Fails when only their number is bounded.
#[tokio::test]
async fn a_consumer_that_is_too_slow_for_the_bytes_sees_a_gap() {
    const BYTES_MAX: usize = 64 * 1024;
    let server = PrivateRedis::start();
    let config =
        RedisConfig { subscription_bytes_max: BYTES_MAX, ..redis_config(&server.url(), "") };
    let pool = RedisPool::new(&config).expect("settings");
    let mut subscription = pool.subscribe("news");
    assert_eq!(next(&mut subscription).await, Event::Connected);
    let ten = "for i = 1, 10 do redis.call('PUBLISH', 'news', string.rep('x', 5000)) end";
    let ten = Script::new("ten", ten);
    for _ in 0..3 {
        // All that fits in, three times one after the other.
        pool.shared().eval(&ten, &ScriptCall::new()).await.expect("messages");
        for _ in 0..10 {
            assert!(matches!(next(&mut subscription).await, Event::Message(_)));
        }
    }
    for _ in 0..3 {
        pool.shared().eval(&ten, &ScriptCall::new()).await.expect("messages");
    }
    eventually("the subscription starts over", async || {
        let held = pool.stats().subscription_bytes;
        assert!(held <= BYTES_MAX, "{held} bytes wait");
        pool.stats().subscription_overflows > 0
    })
    .await;
    let mut messages = 0;
    while next(&mut subscription).await != Event::Disconnected {
        messages += 1;
    }
    assert!((1..=13).contains(&messages), "{messages} messages before the gap");
    assert_eq!(next(&mut subscription).await, Event::Connected);
    assert_eq!(pool.stats().subscription_bytes, 0, "what was read is counted out");
}

#[tokio::test]
async fn a_server_that_was_never_there_shows_as_a_gap() {
    let mut server = PrivateRedis::start();
    server.kill();
    let pool = RedisPool::new(&redis_config(&server.url(), "")).expect("settings");
    let mut subscription = pool.subscribe("news");
    assert_eq!(next(&mut subscription).await, Event::Disconnected);
    server.restart();
    assert_eq!(next(&mut subscription).await, Event::Connected);
}
