//! The pool service over gRPC, on a real Postgres, a real Redis and a real token service.

mod commits;
mod faults;
mod fixture;
mod lists;
mod reads;
mod refusals;
mod writes;
