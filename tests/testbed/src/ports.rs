//! Free ports of the loopback address.

use anyhow::{Context, Result};
use std::fs;
use std::net::{Ipv4Addr, TcpListener};

/// Below it are system services, and commonly used ports of others.
const LOWEST: u16 = 12_000;
/// From here on are the ports that agents offer to tasks.
const HIGHEST: u16 = 31_000;

/// A port that is free now. It may be taken by the time that it is used, but rarely: it is chosen at random.
///
/// It is not one that the kernel gives to outgoing connections, as port 0 would be. Otherwise the port of a daemon that is down
/// for a moment can be lost to anybody's client, and a client that tries to connect to it may get connected to itself.
///
/// # Errors
/// If none of many is free.
pub fn free_port() -> Result<u16> {
    let end = ephemeral_ports_start().clamp(LOWEST + 1000, HIGHEST);
    let candidates = (0..1000).map(|_| LOWEST + random_u16() % (end - LOWEST));
    let mut free = candidates.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    free.next().context("no free port on the loopback address")
}

fn ephemeral_ports_start() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(HIGHEST)
}

fn random_u16() -> u16 {
    let mut bytes = [0; 2];
    // Two bytes never come short.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u16::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_free_port_can_be_bound() {
        let port = super::free_port().unwrap();
        assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_ok());
    }
}
