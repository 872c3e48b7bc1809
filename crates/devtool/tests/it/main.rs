//! The whole development environment, brought up for real and hurt.
//!
//! Cargo is replaced by a script that says that everything is built, because it is: the services
//! come from the run that these tests belong to.

#![expect(clippy::unwrap_used, reason = "a helper of a test that cannot go on fails the test")]

mod hurt;
mod system;
