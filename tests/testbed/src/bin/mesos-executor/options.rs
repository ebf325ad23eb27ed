//! What the agent tells on the command line: `--name=value`, or `--name` for true. For the Docker executor also `MESOS_NAME`.

use anyhow::{Context, Result};
use std::collections::BTreeMap;

pub struct Options {
    given: BTreeMap<String, String>,
    looks_in_environment: bool,
}

impl Options {
    pub fn from_command_line(looks_in_environment: bool) -> Self {
        let arguments = std::env::args().skip(1);
        Self { given: arguments.filter_map(|argument| parse(&argument)).collect(), looks_in_environment }
    }

    pub fn get(&self, name: &str) -> Option<String> {
        let of_environment =
            || std::env::var(format!("MESOS_{}", name.to_uppercase())).ok().filter(|_| self.looks_in_environment);
        self.given.get(name).cloned().or_else(of_environment).filter(|value| !value.is_empty())
    }

    pub fn needed(&self, name: &str) -> Result<String> {
        self.get(name).with_context(|| format!("no option --{name}: a Mesos agent starts this program"))
    }
}

fn parse(argument: &str) -> Option<(String, String)> {
    let option = argument.strip_prefix("--")?;
    let (name, value) = option.split_once('=').unwrap_or((option, "true"));
    Some((name.to_owned(), value.to_owned()))
}
