//! Finds, fetches and runs Postgres and Redis on this machine.
