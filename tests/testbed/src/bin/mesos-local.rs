//! `mesos-local`: a Mesos of one machine in the foreground, to try Microscaler on.
#![allow(clippy::disallowed_methods, reason = "a real cluster takes real time")]

use anyhow::{Context, Result, bail};
use microscaler_testbed::{Agent, Cluster, Docker};
use serde_json::json;
use std::io::Read;

const USAGE: &str = "\
Starts Apache Mesos 1.11.0 on this machine, and ends it with all its tasks on Ctrl-C (or SIGTERM).

When it is up, it prints one line of JSON: {\"masters\": [URL…], \"agents\": [URL…], \"directory\": …}, and with
--docker also \"docker\": its socket.

usage: mesos-local [OPTION…]
  --masters N                  1 if not given; with more, ZooKeeper is started as well
  --agents N                   3 if not given
  --resources TEXT             of each agent, such as 'cpus:8;mem:8192;disk:1000;ports:[31000-31099]'
  --attribute NAME:VALUE       of each agent; repeatable; {i} is the agent's number, from 0
  --linux                      agents with the Linux launcher and control groups: tasks are held to their memory
  --docker                     agents with a Docker of their own; needs root
  --allocation-interval TIME   how often the master makes offers; 1secs if not given
  --master-flag NAME=VALUE     any flag of mesos-master; repeatable
  --agent-flag NAME=VALUE      any flag of mesos-agent; repeatable
  --run-dir DIR                keep logs and sandboxes in a new directory in there
  --until-stdin-closes         end when standard input closes, too
";

#[derive(Default)]
struct Options {
    masters: Option<usize>,
    agents: Option<usize>,
    resources: Option<String>,
    attributes: Vec<(String, String)>,
    master_flags: Vec<(String, String)>,
    agent_flags: Vec<(String, String)>,
    run_directory: Option<String>,
    is_linux: bool,
    has_docker: bool,
    until_stdin_closes: bool,
}

fn main() -> Result<()> {
    let Some(options) = parse(std::env::args().skip(1))? else {
        print!("{USAGE}");
        return Ok(());
    };
    // Before the cluster, and so dropped after it.
    let docker = options.has_docker.then(Docker::start).transpose()?;
    let cluster = start(&options, docker.as_ref())?;
    let agents: Vec<String> = cluster.agents().map(|agent| agent.url()).collect();
    let mut about = json!({ "masters": cluster.master_urls(), "agents": agents, "directory": cluster.directory() });
    if let Some(docker) = &docker {
        about["docker"] = json!(docker.socket());
    }
    println!("{about}");
    if options.until_stdin_closes {
        // Whatever ends the reading, standard input is of no more use.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        return Ok(());
    }
    // A signal ends this process as it is; the testbed's reaper then ends the rest, as after any other death.
    loop {
        std::thread::park();
    }
}

fn start(options: &Options, docker: Option<&Docker>) -> Result<Cluster> {
    let mut builder = Cluster::builder().masters(options.masters.unwrap_or(1));
    for (name, value) in &options.master_flags {
        builder = builder.master_flag(name, value);
    }
    for (name, value) in &options.agent_flags {
        builder = builder.agent_flag(name, value);
    }
    if let Some(directory) = &options.run_directory {
        builder = builder.run_directory(directory);
    }
    for number in 0..options.agents.unwrap_or(3) {
        builder = builder.agent(agent(options, docker, number));
    }
    builder.start()
}

fn agent(options: &Options, docker: Option<&Docker>, number: usize) -> Agent {
    let mut agent = if options.is_linux { Agent::default().linux() } else { Agent::default() };
    if let Some(docker) = docker {
        agent = agent.docker(docker);
    }
    if let Some(resources) = &options.resources {
        agent = agent.resources(resources);
    }
    for (name, value) in &options.attributes {
        agent = agent.attribute(name, value.replace("{i}", &number.to_string()));
    }
    agent
}

/// None if help is asked for.
fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Options>> {
    let mut options = Options::default();
    while let Some(option) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{option} needs a value"));
        match option.as_str() {
            "-h" | "--help" => return Ok(None),
            "--masters" => options.masters = Some(value()?.parse().context("--masters")?),
            "--agents" => options.agents = Some(value()?.parse().context("--agents")?),
            "--resources" => options.resources = Some(value()?),
            "--attribute" => options.attributes.push(pair(&value()?, ':')?),
            "--allocation-interval" => options.master_flags.push(("allocation_interval".to_owned(), value()?)),
            "--master-flag" => options.master_flags.push(pair(&value()?, '=')?),
            "--agent-flag" => options.agent_flags.push(pair(&value()?, '=')?),
            "--run-dir" => options.run_directory = Some(value()?),
            "--linux" => options.is_linux = true,
            "--docker" => options.has_docker = true,
            "--until-stdin-closes" => options.until_stdin_closes = true,
            _ => bail!("unknown option {option}\n\n{USAGE}"),
        }
    }
    Ok(Some(options))
}

fn pair(text: &str, separator: char) -> Result<(String, String)> {
    let (name, value) = text.split_once(separator).with_context(|| format!("'{text}' has no '{separator}'"))?;
    Ok((name.to_owned(), value.to_owned()))
}
