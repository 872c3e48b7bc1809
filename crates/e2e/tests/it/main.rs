//! The whole system, through its ports.

mod cache;
mod chaos;
mod details;
mod faults;
mod lifecycle;
mod plain_sql;
mod pooler;
mod real_data;
mod sessions;
mod trace;
mod wrong_input;
