//! Loopback ports: the preferred one when it is free, else any free one.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Whether 127.0.0.1:`port` can be listened on right now.
#[must_use]
pub fn is_free(port: u16) -> bool {
    TcpListener::bind(loopback(port)).is_ok()
}

/// The first of `wanted` that is free and not in `reserved`, else a port the system picks.
///
/// The port may be taken by somebody else before it is used; callers that start a server on it try
/// again with another port when that happens.
#[must_use]
pub fn choose(wanted: &[u16], reserved: &[u16]) -> Option<u16> {
    wanted
        .iter()
        .copied()
        .find(|port| *port != 0 && !reserved.contains(port) && is_free(*port))
        .or_else(|| any_free(reserved))
}

/// The loopback address of `port`.
#[must_use]
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn any_free(reserved: &[u16]) -> Option<u16> {
    // Listeners are kept until the end so that the system does not offer the same port again.
    let mut kept = Vec::new();
    for _ in 0..=reserved.len() {
        let listener = TcpListener::bind(loopback(0)).ok()?;
        let port = listener.local_addr().ok()?.port();
        if !reserved.contains(&port) {
            return Some(port);
        }
        kept.push(listener);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_moves_and_a_free_one_does_not() {
        let taken = TcpListener::bind(loopback(0)).unwrap();
        let taken_port = taken.local_addr().unwrap().port();
        let free_port = any_free(&[taken_port]).unwrap();

        assert_eq!(choose(&[free_port], &[]), Some(free_port));
        assert_eq!(choose(&[taken_port, free_port], &[]), Some(free_port));
        let moved = choose(&[taken_port], &[]).unwrap();
        assert_ne!(moved, taken_port);
        let reserved = choose(&[free_port], &[free_port]).unwrap();
        assert_ne!(reserved, free_port);
    }
}
