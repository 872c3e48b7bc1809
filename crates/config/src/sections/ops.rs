//! `[ops]`: the HTTP port for operators.

use std::net::SocketAddr;

use crate::reader::Reader;

/// `/livez`, `/readyz`, `/startupz` and `/metrics` over HTTP.
#[derive(Debug, Clone)]
pub struct OpsConfig {
    /// Address to listen on.
    pub listen: SocketAddr,
}

impl OpsConfig {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let listen = reader.address("ops.listen");
        Some(Self { listen: listen? })
    }
}
