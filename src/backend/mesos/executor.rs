//! What Mesos is told of the executor of pooled apps.
//!
//! Mesos takes further tasks for an executor that runs only under the very description it was started with. So the description is part of
//! the id: what is described otherwise is another executor.

use std::sync::Arc;

use serde_json::json;

use super::carve::Stock;
use super::container::{container, volume};
use super::wire::{CommandInfo, ExecutorInfo, Resource, Uri, Value};
use crate::api::container::Volume;
use crate::api::pool::Executor;
use crate::api::template::Template;
use crate::api::validated::{App, Base, MesosPool, short_hash};
use crate::policy::resources::Resources;

const PROGRAM: &str = "/usr/local/bin/microscaler";
/// The name of a fetched program in the sandbox.
const FETCHED: &str = "microscaler";
/// Where the agents mount the sandbox into images, unless told otherwise (`--sandbox_directory`). A path that is not absolute would be
/// taken from the image's own directory.
const SANDBOX_IN_IMAGES: &str = "/mnt/mesos/sandbox";
/// Where the program of the agent is mounted into images.
const PROGRAM_IN_IMAGES: &str = "/mnt/mesos/microscaler";

/// So many executors of a base can follow one another on an agent until an id comes again.
pub const GENERATIONS: u32 = 64;

/// The executor of the app's base. `generation` tells apart those that follow one another on an agent.
pub fn executor_info(app: &App, base: &Base, pool: &MesosPool, resources: Vec<Resource>, generation: u32) -> ExecutorInfo {
    let mut info = ExecutorInfo {
        executor_id: Value::from(Arc::from("")),
        kind: "CUSTOM",
        name: format!("pooled replicas of {}", app.key.namespace()),
        source: format!("{} {} {generation}", pool.key, base.key),
        command: CommandInfo { user: app.template.user.clone(), ..CommandInfo::default() },
        container: container(&app.template),
        resources,
    };
    place_program(&mut info, pool);
    let text = serde_json::to_vec(&info).unwrap_or_default();
    info.executor_id.value = format!("microscaler.{}.{}{}", base.key, settings(pool), short_hash(&text)).into();
    info
}

/// What stands in the ids of all executors that are started with the pool's present settings: what it cannot be known of them before an
/// offer tells which reservations there are is left out.
pub fn settings(pool: &MesosPool) -> String {
    let Executor { path, uri, path_in_images, .. } = pool.mesos.executor.clone().unwrap_or_default();
    let path = path.unwrap_or_else(|| PROGRAM.to_owned());
    let Resources { cpu, memory, disk, gpu, .. } = pool.executor;
    short_hash(json!([pool.key.to_string(), path, uri, path_in_images, cpu, memory, disk, gpu]).to_string().as_bytes())
}

/// Says where the program is, and how it comes there.
fn place_program(info: &mut ExecutorInfo, pool: &MesosPool) {
    let settings = pool.mesos.executor.clone().unwrap_or_default();
    let in_images = info.container.is_some();
    let program = match (settings.path_in_images.filter(|_| in_images), settings.uri) {
        (Some(path), _) => path,
        (None, Some(uri)) => {
            info.command.uris = vec![Uri { value: uri, executable: true, cache: true, output_file: FETCHED.to_owned() }];
            format!("{}/{FETCHED}", if in_images { SANDBOX_IN_IMAGES } else { "." })
        }
        (None, None) => {
            let host_path = settings.path.unwrap_or_else(|| PROGRAM.to_owned());
            match &mut info.container {
                Some(container) => {
                    let mount = Volume { host_path, mount_path: PROGRAM_IN_IMAGES.to_owned(), read_only: true };
                    match container["volumes"].as_array_mut() {
                        Some(volumes) => volumes.push(volume(&mount)),
                        None => container["volumes"] = json!([volume(&mount)]),
                    }
                    PROGRAM_IN_IMAGES.to_owned()
                }
                None => host_path,
            }
        }
    };
    let name = program.rsplit('/').next().unwrap_or(FETCHED).to_owned();
    (info.command.value, info.command.arguments) = (Some(program), vec![name, "executor".to_owned()]);
}

/// What the key of a base stands for. It is compared in full, so that two keys that are the same by chance, or by somebody's art, do not
/// put apps of two users into one container.
#[derive(Debug)]
pub struct Shared {
    namespace: String,
    user: Option<String>,
    image: Option<String>,
    volumes: Vec<Volume>,
}

impl Shared {
    pub fn by(app: &App) -> Self {
        let Template { user, image, volumes, .. } = &app.template;
        Self { namespace: app.key.namespace().to_owned(), user: user.clone(), image: image.clone(), volumes: volumes.clone() }
    }

    pub fn is_by(&self, app: &App) -> bool {
        let Template { user, image, volumes, .. } = &app.template;
        self.namespace == app.key.namespace() && self.user == *user && self.image == *image && self.volumes == *volumes
    }
}

/// The description that an executor of this id was started with, as far as it can be found out from the room that is offered now.
pub fn recall(id: &str, app: &App, base: &Base, pool: &MesosPool, stock: &Stock) -> Option<(ExecutorInfo, u32)> {
    let resources = stock.whole(pool.executor);
    let mut all = resources.iter().flat_map(|resources| (0..GENERATIONS).map(move |generation| (resources, generation)));
    all.find_map(|(resources, generation)| {
        let info = executor_info(app, base, pool, resources.clone(), generation);
        (*info.executor_id.value == *id).then_some((info, generation))
    })
}

/// The base's key of an executor's id; `None` for what is no executor of ours.
pub fn parse_executor_id(id: &str) -> Option<Arc<str>> {
    parts(id).map(|(key, _)| key.into())
}

/// As before, but also `None` for one that was started with other settings than [these](settings).
pub fn key_with(settings: &str, id: &str) -> Option<Arc<str>> {
    parts(id).filter(|(_, hashes)| hashes.starts_with(settings)).map(|(key, _)| key.into())
}

/// The base's key, and the hashes of the settings and of the whole.
fn parts(id: &str) -> Option<(&str, &str)> {
    let (key, hashes) = id.strip_prefix("microscaler.")?.split_once('.')?;
    let hexadecimal = |text: &str, digits| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (hexadecimal(key, 8) && hexadecimal(hashes, 16)).then_some((key, hashes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub mod tests {
    use super::super::testing::{app, pool_with};
    use super::*;
    use serde_json::Value as Json;

    const POOLED: &str = "launch: pooled, shell: x, resources: {cpu: 1, memory: 1Mi}";

    pub fn info() -> ExecutorInfo {
        of("", "", 0)
    }

    fn of(template: &str, settings: &str, generation: u32) -> ExecutorInfo {
        let app = app("web", &format!("{{{POOLED}{template}}}"));
        executor_info(&app, app.base.as_ref().unwrap(), &pool_with(settings), Vec::new(), generation)
    }

    fn json(template: &str, settings: &str) -> Json {
        serde_json::to_value(of(template, settings, 0)).unwrap()
    }

    #[test]
    fn the_id_stands_for_the_whole_description() {
        let id = info().executor_id.value;
        let key = app("other", &format!("{{{POOLED}}}")).base.unwrap().key;
        assert_eq!(parse_executor_id(&id).as_deref(), Some(&*key), "{id}");
        assert_eq!(of("", "", 0), info(), "the same every time");
        assert_eq!(app("other", &format!("{{{POOLED}, env: [{{name: A}}]}}")).base.unwrap().key, key, "shared");
        let (here, there) = (settings(&pool_with("")), settings(&pool_with(", executor: {path: /opt/m}")));
        assert_eq!((key_with(&here, &id), key_with(&there, &id)), (Some(key), None));
        let others = [of("", "", 1), of(", user: www", "", 0), of("", ", executor: {path: /opt/m}", 0)];
        assert!(others.iter().all(|other| other.executor_id.value != id));
        for foreign in ["", "default.web.0000beef.k-1", "microscaler.0badcafe.k-17", "microscaler.web.0000beef0000beef"] {
            assert_eq!(parse_executor_id(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn the_program_is_on_the_agent_or_fetched() {
        let command = &json("", "")["command"];
        assert_eq!((command["value"].as_str(), command["shell"].as_bool()), (Some(PROGRAM), Some(false)));
        assert_eq!(command["arguments"], json!(["microscaler", "executor"]));
        let command = &json(", user: www", ", executor: {uri: 'http://files/microscaler-1.2?x'}")["command"];
        assert_eq!((command["value"].as_str(), command["user"].as_str()), (Some("./microscaler"), Some("www")));
        let uri =
            json!({"value": "http://files/microscaler-1.2?x", "executable": true, "cache": true, "output_file": "microscaler"});
        assert_eq!(command["uris"], json!([uri]));
    }

    #[test]
    fn in_images_it_is_mounted_or_fetched_or_there() {
        let image = ", image: 'web:1', volumes: [{hostPath: /a, mountPath: /b}]";
        let mounted = json(image, ", executor: {path: /opt/m}");
        assert_eq!(mounted["command"]["value"], PROGRAM_IN_IMAGES);
        let program = json!({"host_path": "/opt/m", "container_path": PROGRAM_IN_IMAGES, "mode": "RO"});
        assert_eq!((&mounted["container"]["volumes"][1], &mounted["container"]["type"]), (&program, &json!("MESOS")));
        assert_eq!(json(image, ", executor: {uri: /nfs/m}")["command"]["value"], "/mnt/mesos/sandbox/microscaler");
        let there = json(image, ", executor: {uri: /nfs/m, pathInImages: /usr/bin/m}");
        assert_eq!((there["command"]["value"].as_str(), there["command"].get("uris")), (Some("/usr/bin/m"), None));
    }
}
