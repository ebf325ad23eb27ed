//! One look at a task: run a command, ask over HTTP, or connect.

use crate::place::Place;
use crate::process::Process;
use anyhow::{Context, Result, bail, ensure};
use microscaler_testbed::wire::{Connection, Request};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// What is looked at; from a `CheckInfo` or a `HealthCheck`, which are alike.
pub enum Probe {
    Command { place: Place, info: Value },
    Http { address: SocketAddr, path: String },
    Tcp { address: SocketAddr },
}

/// What was seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    Exit(i32),
    Status(u16),
    Connects(bool),
}

impl Outcome {
    pub fn is_healthy(self) -> bool {
        match self {
            Self::Exit(code) => code == 0,
            Self::Status(code) => (200..400).contains(&code),
            Self::Connects(it_does) => it_does,
        }
    }

    /// The member of `CheckStatusInfo`.
    pub fn status(self) -> Value {
        match self {
            Self::Exit(code) => json!({ "exit_code": code }),
            Self::Status(code) => json!({ "status_code": code }),
            Self::Connects(it_does) => json!({ "succeeded": it_does }),
        }
    }
}

impl Probe {
    pub fn new(info: &Value, place: &Place) -> Result<Self> {
        match info["type"].as_str().unwrap_or_default() {
            // A CheckInfo has the CommandInfo one level deeper.
            "COMMAND" => {
                let outer = &info["command"];
                let command = if outer["command"].is_object() { &outer["command"] } else { outer };
                Ok(Self::Command { place: place.clone(), info: command.clone() })
            }
            "HTTP" => {
                let http = &info["http"];
                ensure!(http["scheme"].as_str().unwrap_or("http") == "http", "this executor has no TLS, so it checks only http");
                Ok(Self::Http { address: address(http)?, path: http["path"].as_str().unwrap_or("/").to_owned() })
            }
            "TCP" => Ok(Self::Tcp { address: address(&info["tcp"])? }),
            other => bail!("no such type of check: '{other}'"),
        }
    }

    /// Looks once. An error says that nothing was seen in time.
    pub fn run(&self, limit: Duration) -> Result<Outcome> {
        match self {
            Self::Command { place, info } => run_command(place, info, limit),
            Self::Http { address, path } => ask(*address, path, limit).map(Outcome::Status),
            Self::Tcp { address } => Ok(Outcome::Connects(TcpStream::connect_timeout(address, limit).is_ok())),
        }
    }
}

/// A task listens on this machine, as it shares its network.
fn address(info: &Value) -> Result<SocketAddr> {
    let port = info["port"].as_u64().and_then(|port| u16::try_from(port).ok()).context("the check has no port")?;
    let is_ipv6 = info["protocol"] == "IPV6";
    Ok(if is_ipv6 { (Ipv6Addr::LOCALHOST, port).into() } else { (Ipv4Addr::LOCALHOST, port).into() })
}

fn run_command(place: &Place, info: &Value, limit: Duration) -> Result<Outcome> {
    let mut process = Process::start(place.check_command(info))?;
    let is_in_time = process.ends_within(limit)?;
    if !is_in_time {
        process.signal(Signal::KILL);
    }
    let status = process.finish()?;
    ensure!(is_in_time, "Command has not returned after {limit:?}; aborting");
    Ok(Outcome::Exit(status.code().context("the command was ended by a signal")?))
}

fn ask(address: SocketAddr, path: &str, limit: Duration) -> Result<u16> {
    let mut connection = Connection::open(address, limit)?;
    connection.set_read_timeout(Some(limit))?;
    let request = Request { method: "GET", path, headers: "Connection: close\r\n", body: b"" };
    Ok(connection.call(request)?.status)
}
