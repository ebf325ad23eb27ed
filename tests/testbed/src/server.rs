//! One real server of demand: a broker, a database, a metrics server.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::home::Home;
use crate::install::{install, install_server};
use crate::marked::VARIABLE;
use crate::ports::Port;
use crate::{Arguments, Daemon, Recipe};

/// The slowest, on a busy machine, are those in Java and Erlang.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// A server with a directory of its own, on a free port of the loopback address; it ends with this value, or with our process.
///
/// ```no_run
/// # fn main() -> anyhow::Result<()> {
/// use microscaler_testbed::Server;
/// let arguments = |port: u16, _: &std::path::Path| vec!["--port".to_owned(), port.to_string()];
/// let redis = Server::new("redis")?.start("redis-server", arguments)?;
/// redis.kill();
/// # Ok(())
/// # }
/// ```
pub struct Server {
    daemon: Daemon,
    _ports: Vec<Port>,
    // Dropped after the daemon.
    _home: Home,
}

/// A server that is not started yet.
pub struct Stopped {
    name: String,
    installed: PathBuf,
    home: Home,
    ports: Vec<Port>,
    environment: BTreeMap<String, String>,
    scheme: &'static str,
}

impl Server {
    /// Installs it if need be: `servers/install NAME`, which prints the directory where its programs are.
    ///
    /// # Errors
    /// If that fails: what is printed on standard error says why.
    #[allow(clippy::new_ret_no_self, reason = "it has to be told how to start")]
    pub fn new(name: &str) -> Result<Stopped> {
        let installed = install_server(name)?;
        let home = Home::make(None, &install(None)?.join("bin/testbed-reaper"))?;
        Ok(Stopped { name: name.to_owned(), installed, home, ports: Vec::new(), environment: BTreeMap::new(), scheme: "http" })
    }
}

impl std::ops::Deref for Server {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl Stopped {
    /// Its directory, which is removed with it: for files that it needs at the start.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.home.directory()
    }

    /// Where its programs are.
    #[must_use]
    pub fn installed(&self) -> &Path {
        &self.installed
    }

    /// Writes a file in its directory.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.directory().join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// A further port of the loopback address, which is its own for as long as it lives.
    ///
    /// # Errors
    /// If none is free.
    pub fn another_port(&mut self) -> Result<u16> {
        let port = Port::reserve()?;
        let number = port.number;
        self.ports.push(port);
        Ok(number)
    }

    /// A variable of its environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// What its URL begins with.
    #[must_use]
    pub fn scheme(mut self, scheme: &'static str) -> Self {
        self.scheme = scheme;
        self
    }

    /// Starts this program, of those installed or with a path of its own, and waits until it listens. The arguments are made from the
    /// port and the directory.
    ///
    /// # Errors
    /// If it cannot be started, ends, or does not listen; with the end of its log.
    pub fn start(
        mut self,
        program: impl AsRef<Path>,
        arguments: impl Fn(u16, &Path) -> Vec<String> + Send + Sync + 'static,
    ) -> Result<Server> {
        self.environment.insert(VARIABLE.to_owned(), self.home.id().to_owned());
        let recipe = Recipe {
            name: self.name,
            program: self.installed.join(program),
            arguments: Box::new(arguments) as Arguments,
            scheme: self.scheme,
            environment: self.environment,
            port_variable: None,
            directory: self.home.directory().to_owned(),
        };
        Ok(Server { daemon: Daemon::launch(recipe, TIME_LIMIT)?, _ports: self.ports, _home: self.home })
    }
}
