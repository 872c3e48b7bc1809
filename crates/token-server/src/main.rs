//! Serves forebay.token.v1 over gRPC.

fn main() {}
