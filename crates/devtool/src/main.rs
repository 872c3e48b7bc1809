//! What cargo xtask runs: the one-command environment, tests and checks.

fn main() {}
