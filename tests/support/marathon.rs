//! A Marathon on the testbed's Mesos, and a Microscaler beside it.

use std::collections::BTreeSet;

use microscaler_testbed::{Agent, Cluster};
use microscaler_testbed_marathon::{Builder, Marathon};
use serde_json::{Value, json};

use super::front::Front;
use super::{Scaler, wait_for};

/// Agents of four cores each, which take eight replicas of [`SLOT`](super::SLOT).
pub struct Bed {
    /// Dropped in this order.
    pub scaler: Option<Scaler>,
    /// What Microscaler sees of the Marathon.
    pub front: Option<Front>,
    pub marathon: Marathon,
    pub cluster: Cluster,
}

impl Bed {
    /// A fast Marathon on so many agents; nothing of ours yet.
    pub fn new(agents: usize) -> Self {
        Self::with(agents, |builder| builder)
    }

    pub fn with(agents: usize, change: impl FnOnce(Builder<'_>) -> Builder<'_>) -> Self {
        let agent = || Agent::default().resources("cpus:4;mem:4096;disk:4096;ports:[31000-31999]");
        let builder = Cluster::builder().fast_failure_detection().master_flag("allocation_interval", "50ms");
        let cluster = (0..agents).fold(builder, |builder, _| builder.agent(agent())).start().unwrap();
        let builder = Marathon::builder(&cluster).flag("min_revive_offers_interval", "50").flag("max_instances_per_offer", "100");
        let marathon = change(builder).start().unwrap();
        Self { scaler: None, front: None, marathon, cluster }
    }

    /// The same behind a [`Front`].
    pub fn behind_a_front(agents: usize, change: impl FnOnce(Builder<'_>) -> Builder<'_>) -> Self {
        let bed = Self::with(agents, change);
        Self { front: Some(Front::of(bed.marathon.url())), ..bed }
    }

    pub fn front(&self) -> &Front {
        self.front.as_ref().unwrap()
    }

    /// The pool `default`; `more` is put into its `marathon`.
    pub fn pool(&self, more: &str) -> String {
        let urls = self.front.as_ref().map_or_else(|| self.marathon.urls(), |front| vec![front.url().to_owned()]);
        format!(
            "apiVersion: microscaling.dev/v1alpha1\nkind: MicroscalingPool\nmetadata: {{name: default}}\nspec:\n  marathon:\n    urls: \
             {urls:?}\n    capacity: {{mesos: {:?}}}\n{more}",
            self.cluster.master_urls()
        )
    }

    /// Starts Microscaler with these apps on this Marathon.
    pub fn scale(&mut self, apps: &[(&str, &str)]) -> &Scaler {
        self.scale_with("", apps)
    }

    /// `more` is put into the pool's `marathon`.
    pub fn scale_with(&mut self, more: &str, apps: &[(&str, &str)]) -> &Scaler {
        let files: Vec<_> = apps.iter().map(|(name, text)| (format!("{name}.yaml"), (*text).to_owned())).collect();
        let files = std::iter::once(("pool.yaml".to_owned(), self.pool(more))).chain(files).collect::<Vec<_>>();
        let files: Vec<_> = files.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
        self.scaler.insert(Scaler::start(&self.cluster, &files))
    }

    pub fn scaler(&self) -> &Scaler {
        self.scaler.as_ref().unwrap()
    }

    /// An app that a person has made, of a slot's size.
    pub fn make(&self, id: &str, instances: usize, more: &Value) {
        let mut app = json!({"id": id, "cmd": "exec sleep 100000", "cpus": 0.5, "mem": 32, "instances": instances});
        app.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let (status, answer) = self.marathon.send("POST", "/v2/apps", &app).unwrap();
        assert_eq!(status, 201, "{answer}");
        self.wait_running(id, instances);
    }

    /// A person sets the number of instances.
    pub fn set(&self, id: &str, instances: usize) {
        let path = format!("/v2/apps{id}?force=true");
        let (status, answer) = self.marathon.send("PUT", &path, &json!({"instances": instances})).unwrap();
        assert_eq!(status, 200, "{answer}");
    }

    pub fn app(&self, id: &str) -> Option<Value> {
        let (status, answer) = self.marathon.send("GET", &format!("/v2/apps{id}"), &Value::Null).ok()?;
        (status == 200).then(|| answer["app"].clone())
    }

    pub fn instances(&self, id: &str) -> Option<u64> {
        self.app(id)?["instances"].as_u64()
    }

    /// Ids of the tasks that Mesos itself says are running.
    pub fn running(&self, id: &str) -> BTreeSet<String> {
        let prefix = format!("{}.instance-", id.trim_start_matches('/').replace('/', "_"));
        let tasks = self.cluster.tasks().unwrap_or_default();
        let running = tasks.into_iter().filter(|task| task.state == "TASK_RUNNING" && task.id.starts_with(&prefix));
        running.map(|task| task.id).collect()
    }

    pub fn wait_running(&self, id: &str, count: usize) {
        wait_for(&format!("{count} tasks of {id} to run"), || (self.running(id).len() == count).then_some(()));
    }

    /// Waits until each of these runs so many: by our status, by Marathon's number and by Mesos' tasks.
    pub fn settle(&self, wanted: &[(&str, &str, usize)]) {
        let scaler = self.scaler();
        scaler.wait(&format!("to settle at {wanted:?}"), || {
            wanted.iter().all(|(name, id, count)| {
                let number = i64::try_from(*count).unwrap();
                scaler.counts(name) == Some((number, number, 0))
                    && self.instances(id) == Some(*count as u64)
                    && self.running(id).len() == *count
            })
        });
    }

    /// `(message, status)` of a condition of the pool.
    pub fn pool_condition(&self, kind: &str) -> Option<(String, String)> {
        let pools = self.scaler().get("/v1/pools")?;
        let conditions = pools["items"][0]["status"]["conditions"].as_array()?.clone();
        let found = conditions.into_iter().find(|condition| condition["type"] == kind)?;
        Some((found["message"].as_str()?.to_owned(), found["status"].as_str()?.to_owned()))
    }

    /// How many requests of a kind we have sent.
    pub fn sent(&self, kind: &str) -> u64 {
        let text = self.scaler().text("/metrics").unwrap_or_default();
        let line = format!("microscaler_calls_total{{type=\"{kind}\"}} ");
        text.lines().find_map(|text| text.strip_prefix(&line)?.parse().ok()).unwrap_or(0)
    }
}

/// An app of Marathon that is adopted. `spec` is YAML, indented by nothing.
pub fn adopted(name: &str, id: &str, spec: &str) -> String {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: microscaling.dev/v1alpha1\nkind: MicroscaledApp\nmetadata: {{name: {name}}}\nspec:\n  marathonApp: {id}\n{spec}"
    )
}
