//! Serves forebay.pool.v1 over gRPC.

fn main() {}
