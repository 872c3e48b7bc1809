//! The token service over gRPC, on a real Postgres and a real Redis.

mod commits;
mod faults;
mod fixture;
mod lists;
mod masks;
mod raw;
mod reads;
mod refusals;
mod repeats;
mod stored;
mod writes;
