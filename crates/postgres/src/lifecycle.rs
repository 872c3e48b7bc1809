//! The life of connections: who opens them, who gets one, how long it lives, and what ends it.

pub(crate) mod application;
pub(crate) mod budget;
pub(crate) mod checkout;
pub(crate) mod connector;
pub(crate) mod drain;
pub(crate) mod janitor;
pub(crate) mod lease;
pub(crate) mod line;
pub(crate) mod live;
pub(crate) mod manager;
pub(crate) mod outage;
pub(crate) mod outlook;
pub(crate) mod shelf;
pub(crate) mod sizing;
pub(crate) mod visitor;
