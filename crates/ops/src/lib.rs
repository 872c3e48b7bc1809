//! forebay.ops.v1.OpsService: what an operator asks a running process.
