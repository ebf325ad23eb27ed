//! `kubernetes-local`: a Kubernetes API server of one machine in the foreground, to try Microscaler on.
#![allow(clippy::disallowed_methods, reason = "a real cluster takes real time")]

use anyhow::{Result, bail};
use microscaler_testbed::ControlPlane;
use serde_json::json;
use std::io::Read;

const USAGE: &str = "\
Starts a Kubernetes API server and its etcd on this machine, and ends them on
Ctrl-C (or SIGTERM). There are no controllers and no nodes: objects are stored
and watched, and nothing else happens to them.

When it is up, it prints one line of JSON: {\"url\": …, \"kubeconfig\": …,
\"kubectl\": …, \"helm\": …, \"bin\": …, \"directory\": …}.

usage: kubernetes-local [OPTION]
  --until-stdin-closes         end when standard input closes, too
";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => serve(false),
        ["--until-stdin-closes"] => serve(true),
        ["-h" | "--help"] => {
            print!("{USAGE}");
            Ok(())
        }
        _ => bail!("unknown options {}\n\n{USAGE}", arguments.join(" ")),
    }
}

fn serve(until_stdin_closes: bool) -> Result<()> {
    let control_plane = ControlPlane::start()?;
    let programs = control_plane.programs();
    let about = json!({
        "url": control_plane.url(),
        "kubeconfig": control_plane.kubeconfig(),
        "kubectl": programs.join("kubectl"),
        "helm": programs.join("helm"),
        "bin": programs,
        "directory": control_plane.directory(),
    });
    println!("{about}");
    if until_stdin_closes {
        // Whatever ends the reading, standard input is of no more use.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        return Ok(());
    }
    // A signal ends this process as it is; the testbed's reaper then ends the rest, as after any other death.
    loop {
        std::thread::park();
    }
}
