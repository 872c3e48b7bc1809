//! PgPool: Postgres through bb8, gated, cancel-safe and with typed errors.
