//! GET, whole into memory: for what tests fetch.

use anyhow::{Context, Result, bail};
use microscaler_testbed::wire::{Connection, Request};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_mins(1);
const MOST_REDIRECTIONS: usize = 10;

pub fn get(url: &str) -> Result<Vec<u8>> {
    let mut url = url.to_owned();
    for _ in 0..MOST_REDIRECTIONS {
        let (host, path) = split(&url)?;
        let mut connection = Connection::open(resolve(host)?, TIMEOUT).with_context(|| format!("cannot connect to {host}"))?;
        connection.set_read_timeout(Some(TIMEOUT))?;
        let request = Request { method: "GET", path, headers: "Connection: close\r\n", body: b"" };
        let mut response = connection.call(request)?;
        match (response.status, response.header("location")) {
            (200, _) => {
                if response.header("content-length").is_none() {
                    // It ends with the connection; nothing is left if it came in chunks.
                    connection.read_to_end(&mut response.body)?;
                }
                return Ok(response.body);
            }
            (301 | 302 | 303 | 307 | 308, Some(location)) if location.starts_with('/') => {
                url = format!("http://{host}{location}")
            }
            (301 | 302 | 303 | 307 | 308, Some(location)) => url = location.to_owned(),
            (status, _) => bail!("{url} answers {status}"),
        }
    }
    bail!("more than {MOST_REDIRECTIONS} redirections")
}

/// Host with port, and path with query.
fn split(url: &str) -> Result<(&str, &str)> {
    let rest =
        url.strip_prefix("http://").with_context(|| format!("{url}: this fetcher has no TLS, so it fetches only http://"))?;
    Ok(rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash)))
}

fn resolve(host: &str) -> Result<SocketAddr> {
    let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let mut addresses = with_port.to_socket_addrs().with_context(|| format!("no such host: {host}"))?;
    addresses.next().with_context(|| format!("{host} has no address"))
}
