//! RedisPool: shared pipelined lanes, dedicated leases, pub/sub.
