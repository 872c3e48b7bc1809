//! The pool service over gRPC, on a real Postgres, a real Redis and a real token service.

mod commits;
mod faults;
mod fixture;
mod lists;
#[path = "../../../token/tests/it/raw.rs"]
mod raw;
mod reads;
mod refusals;
mod stored;
mod writes;
