//! What the Docker containerizer of 1.11 wants of an executor to know it again after a restart of the agent: the address of a
//! libprocess process that accepts connections. It skips executors that only speak HTTP, so one is pretended.

use anyhow::{Context, Result};
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Writes the address to where the agent looks. To be called after each SUBSCRIBED, since the agent then takes it away.
pub fn write_address() -> Result<()> {
    static ADDRESS: Mutex<Option<SocketAddr>> = Mutex::new(None);
    let mut known = ADDRESS.lock().unwrap_or_else(PoisonError::into_inner);
    let address = match *known {
        Some(address) => address,
        None => *known.insert(listen()?),
    };
    let directory = directory()?;
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    // Renamed, so that the agent never reads half of it.
    let unfinished = directory.join(".libprocess.pid");
    fs::write(&unfinished, format!("executor(1)@{address}"))?;
    fs::rename(unfinished, directory.join("libprocess.pid")).context("libprocess.pid")
}

/// The sandbox is `<work>/slaves/<rest>`, and its checkpoints are in `<work>/meta/slaves/<rest>`.
fn directory() -> Result<PathBuf> {
    let sandbox = std::env::var("MESOS_DIRECTORY").context("MESOS_DIRECTORY is not set: a Mesos agent starts this program")?;
    let (work, rest) = sandbox.split_once("/slaves/").with_context(|| format!("{sandbox} is no sandbox of an agent"))?;
    Ok(format!("{work}/meta/slaves/{rest}/pids").into())
}

/// Takes connections, and what is said, and answers nothing.
fn listen() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port to listen on")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            std::thread::spawn(move || connection.read(&mut [0; 4096]));
        }
    });
    Ok(address)
}
