//! Containers: the image that a replica runs in, and the directories of the host that it sees there.

use serde_json::{Value as Json, json};

use crate::api::container::{Containerizer, Volume};
use crate::api::template::Template;

/// `ContainerInfo` of an app that has an image; `None` for one that sees the host's files.
pub fn container(template: &Template) -> Option<Json> {
    let image = template.image.as_deref()?;
    let mut info = if is_docker(template) { docker(image, template) } else { mesos(image) };
    if !template.volumes.is_empty() {
        info["volumes"] = template.volumes.iter().map(volume).collect();
    }
    Some(info)
}

/// Whether the Docker daemon runs the replicas. Its executor in Mesos knows less than the others.
pub fn is_docker(template: &Template) -> bool {
    template.image.is_some() && template.containerizer == Containerizer::Docker
}

/// An image that Mesos itself unpacks, once for each agent.
pub fn mesos(image: &str) -> Json {
    json!({"type": "MESOS", "mesos": {"image": {"type": "DOCKER", "docker": {"name": image}, "cached": true}}})
}

/// What `docker run` is told beside the command. Ports are the host's, as everywhere. Where Mesos has no field that reaches the
/// container (the program in place of the image's own entrypoint, directory, user) there are Docker's own options.
fn docker(image: &str, template: &Template) -> Json {
    let program = template.command.as_ref().filter(|_| template.shell.is_none()).and_then(|argv| argv.first());
    let options = [("entrypoint", program), ("workdir", template.working_directory.as_ref()), ("user", template.user.as_ref())];
    let parameters: Vec<_> =
        options.iter().filter_map(|(key, value)| value.map(|value| json!({"key": key, "value": value}))).collect();
    let mut docker = json!({"image": image, "network": "HOST"});
    if !parameters.is_empty() {
        docker["parameters"] = parameters.into();
    }
    json!({"type": "DOCKER", "docker": docker})
}

pub fn volume(volume: &Volume) -> Json {
    let mode = if volume.read_only { "RO" } else { "RW" };
    json!({"host_path": volume.host_path, "container_path": volume.mount_path, "mode": mode})
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::testing::app;
    use super::*;

    fn of(template: &str) -> Option<Json> {
        container(&app("web", &format!("{{resources: {{cpu: 1, memory: 1Mi}}, {template}}}")).template)
    }

    #[test]
    fn without_an_image_there_is_no_container() {
        assert_eq!(of("shell: x"), None);
    }

    #[test]
    fn mesos_unpacks_and_mounts() {
        let info = of("shell: x, image: 'web:1', volumes: [{hostPath: /a, mountPath: /b}, {hostPath: /c, mountPath: /d, readOnly: true}]");
        let volumes = json!([
            {"host_path": "/a", "container_path": "/b", "mode": "RW"}, {"host_path": "/c", "container_path": "/d", "mode": "RO"}
        ]);
        let image = json!({"type": "DOCKER", "docker": {"name": "web:1"}, "cached": true});
        assert_eq!(info, Some(json!({"type": "MESOS", "mesos": {"image": image}, "volumes": volumes})));
    }

    #[test]
    fn docker_is_told_by_its_own_options() {
        let plain = json!({"type": "DOCKER", "docker": {"image": "web:1", "network": "HOST"}});
        assert_eq!(of("shell: x, image: 'web:1', containerizer: docker"), Some(plain));
        let info = of("command: [/web, -v], image: 'web:1', containerizer: docker, workingDirectory: /srv, user: www").unwrap();
        let option = |key: &str, value: &str| json!({"key": key, "value": value});
        let options = json!([option("entrypoint", "/web"), option("workdir", "/srv"), option("user", "www")]);
        assert_eq!(info["docker"]["parameters"], options);
    }
}
