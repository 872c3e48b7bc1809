//! `[ops]`: the HTTP port for operators.

use std::net::SocketAddr;

/// `/livez`, `/readyz`, `/startupz` and `/metrics` over HTTP.
#[derive(Debug, Clone)]
pub struct OpsConfig {
    /// Address to listen on.
    pub listen: SocketAddr,
}
