//! Free TCP ports below the ephemeral range.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::bail;

/// First port we hand out, and how many follow it. The kernel gives outgoing connections
/// ports from 32768 up; a port chosen there could be taken between our look and the bind.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A loopback port that nobody listens on.
///
/// # Errors
/// When 1000 ports in a row are taken.
pub fn free_port() -> anyhow::Result<u16> {
    // Test binaries run side by side: each starts its search at another place.
    let start = u16::try_from(std::process::id() % u32::from(COUNT))?;
    for _ in 0..1000 {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start.wrapping_add(offset)) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port among 1000 tried from {FIRST}")
}
