//! Applies the database migrations and prints the version reached.

fn main() {}
