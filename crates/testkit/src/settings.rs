//! Settings of a size that suits a test.

use std::time::Duration;

use forebay_config::{PostgresBudgetConfig, PostgresConfig, PostgresMode, RedisConfig, Secret};

/// Settings of a `PgPool` on the database at `url`: few connections, short waits.
pub fn postgres_config(url: &str) -> PostgresConfig {
    PostgresConfig {
        url: Secret::new(url),
        replica_urls: Vec::new(),
        mode: PostgresMode::Auto,
        instance: String::new(),
        connections_max: 4,
        connections_min: 0,
        waiting_max: 64,
        acquire_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(10),
        idle_in_transaction_timeout: Duration::from_secs(10),
        lock_timeout: Duration::from_secs(5),
        lifetime_max: Duration::from_secs(600),
        idle_timeout: Duration::from_secs(600),
        leak_after: Duration::from_secs(30),
        // A test that takes its server away wants to hear of it at once.
        outage_grace: Duration::ZERO,
        regrow_interval: Duration::from_secs(10),
        pooler_connections_max: 15,
        pooler_clients_max: 200,
        budget: PostgresBudgetConfig { share: 0.8, reserved: 3, services: Vec::new() },
    }
}

/// Settings of a `RedisPool` on the server at `url`, below `key_prefix`.
pub fn redis_config(url: &str, key_prefix: &str) -> RedisConfig {
    RedisConfig {
        url: Secret::new(url),
        key_prefix: key_prefix.to_owned(),
        lanes: 2,
        lane_in_flight_max: 256,
        lane_waiting_max: 8192,
        dedicated_max: 4,
        dedicated_leak_after: Duration::from_secs(60),
        connect_timeout: Duration::from_secs(2),
        command_timeout: Duration::from_secs(2),
        keep_alive: Duration::from_secs(30),
        retries_max: 3,
        backoff_max: Duration::from_millis(200),
        offline_queue_max: 1000,
        offline_queue_bytes_max: 1_048_576,
        subscription_bytes_max: 4_194_304,
    }
}
