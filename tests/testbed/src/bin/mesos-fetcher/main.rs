//! Stand-in for `mesos-fetcher`, which the archive does not hold: brings what `CommandInfo.uris` names into the sandbox.
//!
//! Knows paths, `file://` and `http://`; archives, the executable bit, `output_file`, and the agent's cache.

mod http;
mod item;

use anyhow::{Context, Result};
use item::{Directories, Item};
use serde_json::Value;

fn main() {
    // Standard error is the sandbox's.
    if let Err(error) = fetch_all() {
        eprintln!("Failed to fetch: {error:#}");
        std::process::exit(1);
    }
}

fn fetch_all() -> Result<()> {
    let text = std::env::var("MESOS_FETCHER_INFO").context("MESOS_FETCHER_INFO is not set: a Mesos agent starts this program")?;
    let info: Value = serde_json::from_str(&text).context("MESOS_FETCHER_INFO is not JSON")?;
    let directories = Directories::from_info(&info)?;
    for item in info["items"].as_array().into_iter().flatten() {
        let item = Item::new(item, &directories)?;
        item.fetch().with_context(|| item.uri.clone())?;
    }
    eprintln!("Successfully fetched all URIs into '{}'", directories.sandbox.display());
    Ok(())
}
