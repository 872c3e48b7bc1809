//! Real Postgres and Redis for tests: a database and a key prefix of its own for each.
