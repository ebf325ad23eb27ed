//! A task in a container image, without Docker: the agent has unpacked the image, and `mesos-containerizer launch` enters it.

use crate::options::Options;
use crate::process::variables;
use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::process::Command;

/// What the agent says about the image's root filesystem.
pub struct Rootfs {
    /// Members of every `ContainerLaunchInfo`.
    launch_info: Value,
    /// The image's own command, if the task has none.
    task_command: Option<Value>,
    environment: Map<String, Value>,
    containerizer: PathBuf,
}

impl Rootfs {
    /// None if the task has no image.
    pub fn from_options(options: &Options) -> Result<Option<Self>> {
        let Some(path) = options.get("rootfs") else { return Ok(None) };
        let sandbox = options.get("sandbox_directory").unwrap_or_else(|| "/mnt/mesos/sandbox".to_owned());
        let mut launch_info = json!({
            "rootfs": path,
            "working_directory": options.get("working_directory").unwrap_or_else(|| sandbox.clone()),
        });
        if let Some(user) = options.get("user") {
            launch_info["user"] = user.into();
        }
        // Volumes, and what else the isolators want done inside.
        let of_isolators = json_option(options, "task_launch_info")?.unwrap_or_default();
        for member in ["mounts", "file_operations", "pre_exec_commands", "clone_namespaces"] {
            if let Some(value) = of_isolators.get(member) {
                launch_info[member] = value.clone();
            }
        }
        let mut environment = Map::from_iter([("MESOS_SANDBOX".to_owned(), json!(sandbox))]);
        let of_image = json_option(options, "task_environment")?.unwrap_or_default();
        environment.extend(variables(&json!({ "environment": of_image })).map(|(name, value)| (name.to_owned(), json!(value))));
        let containerizer = std::env::current_exe()?.with_file_name("mesos-containerizer");
        let task_command = json_option(options, "task_command")?;
        Ok(Some(Self { launch_info, task_command, environment, containerizer }))
    }

    /// The command of the task, in the image.
    pub fn task_command(&self, info: &Value) -> Command {
        self.command_in(self.task_command.as_ref().unwrap_or(info), info)
    }

    /// Any command, in the image.
    pub fn command(&self, info: &Value) -> Command {
        self.command_in(info, info)
    }

    fn command_in(&self, command: &Value, environment_of: &Value) -> Command {
        let mut environment = self.environment.clone();
        environment.extend(variables(environment_of).map(|(name, value)| (name.to_owned(), json!(value))));
        let variables: Vec<Value> =
            environment.iter().map(|(name, value)| json!({ "name": name, "value": value, "type": "VALUE" })).collect();
        let mut launch_info = self.launch_info.clone();
        launch_info["command"] = command.clone();
        launch_info["environment"] = json!({ "variables": variables });
        let mut process = Command::new(&self.containerizer);
        process.arg("launch").arg(format!("--launch_info={launch_info}")).arg("--unshare_namespace_mnt=true");
        process
    }
}

fn json_option(options: &Options, name: &str) -> Result<Option<Value>> {
    let text = options.get(name);
    text.map(|text| serde_json::from_str(&text).with_context(|| format!("--{name} is not JSON: {text}"))).transpose()
}
