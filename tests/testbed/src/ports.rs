//! Free ports of the loopback address.

use anyhow::{Context, Result};
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

/// Below it are system services, and commonly used ports of others.
const LOWEST: u16 = 12_000;
/// From here on are the ports that agents offer to tasks.
const HIGHEST: u16 = 31_000;

/// A port that was free when it was reserved, and that no other testbed takes as long as this value lives; also not while the
/// daemon that uses it is down for a moment.
#[derive(Debug)]
pub struct Port {
    pub number: u16,
    /// An abstract socket, whose name is taken as long as it is open: a lock that leaves nothing behind.
    _reservation: UnixListener,
}

impl Port {
    /// Reserves a port, chosen at random.
    ///
    /// It is not one that the kernel gives to outgoing connections, as port 0 would be. Otherwise the port of a daemon that is
    /// down can be lost to anybody's client, and a client that tries to connect to it may get connected to itself.
    ///
    /// # Errors
    /// If none of many is free.
    pub fn reserve() -> Result<Self> {
        let end = ephemeral_ports_start().clamp(LOWEST + 1000, HIGHEST);
        let mut candidates = (0..1000).map(|_| LOWEST + random_u16() % (end - LOWEST));
        candidates.find_map(Self::try_reserve).context("no free port on the loopback address")
    }

    fn try_reserve(number: u16) -> Option<Self> {
        let name = SocketAddr::from_abstract_name(format!("microscaler-testbed-port-{number}")).ok()?;
        let reservation = UnixListener::bind_addr(&name).ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self { number, _reservation: reservation })
    }
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
    use super::*;

    #[test]
    fn a_reserved_port_is_free_and_given_once() {
        let port = Port::reserve().unwrap();
        assert!(Port::try_reserve(port.number).is_none());
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port.number)).is_ok());
    }
}
