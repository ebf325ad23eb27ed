//! What Marathon answers and publishes (1.8 to 1.11), as far as it matters here. What is not known is ignored.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value as Json;

/// `GET /v2/apps?embed=apps.tasks&embed=apps.counts&embed=apps.deployments`.
#[derive(Debug, Default, Deserialize)]
pub struct Apps {
    #[serde(default)]
    pub apps: Vec<AppDoc>,
}

/// An app with its tasks. Amounts are in cores and MiB.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppDoc {
    pub id: Arc<str>,
    #[serde(default)]
    pub instances: i64,
    #[serde(default)]
    pub cpus: f64,
    #[serde(default)]
    pub mem: f64,
    #[serde(default)]
    pub disk: f64,
    #[serde(default)]
    pub gpus: i64,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub kill_selection: KillSelection,
    #[serde(default)]
    pub task_kill_grace_period_seconds: Option<f64>,
    #[serde(default)]
    pub health_checks: Vec<Json>,
    #[serde(default)]
    pub port_definitions: Option<Vec<Json>>,
    #[serde(default)]
    pub networks: Vec<Network>,
    #[serde(default)]
    pub version_info: Option<VersionInfo>,
    #[serde(default)]
    pub deployments: Vec<Named>,
    #[serde(default)]
    pub tasks: Vec<TaskDoc>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum KillSelection {
    #[default]
    YoungestFirst,
    OldestFirst,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Network {
    #[serde(default)]
    pub mode: String,
}

/// Times as Marathon writes them, all in the same form: they can be compared as text.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionInfo {
    pub last_config_change_at: Arc<str>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Named {
    pub id: Arc<str>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskDoc {
    pub id: Arc<str>,
    #[serde(default)]
    pub slave_id: Option<Arc<str>>,
    #[serde(default)]
    pub host: Option<Arc<str>>,
    #[serde(default)]
    pub state: String,
    #[serde(default)]
    pub started_at: Option<Arc<str>>,
    #[serde(default)]
    pub version: Option<Arc<str>>,
    #[serde(default)]
    pub health_check_results: Vec<Health>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Health {
    #[serde(default)]
    pub alive: bool,
}

/// `GET /v2/queue`: what waits for room. Nothing else tells of it.
#[derive(Debug, Default, Deserialize)]
pub struct Queue {
    #[serde(default)]
    pub queue: Vec<Queued>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Queued {
    pub app: Option<Named>,
    pub count: i64,
    #[serde(default)]
    pub delay: Delay,
    #[serde(default)]
    pub processed_offers_summary: Summary,
}

/// Launches are put off after failures. `overdue`: not any more.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delay {
    #[serde(default)]
    pub time_left_seconds: i64,
    #[serde(default)]
    pub overdue: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    #[serde(default)]
    pub reject_summary_last_offers: Vec<Rejected>,
    #[serde(default)]
    pub reject_summary_launch_attempt: Vec<Rejected>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Rejected {
    pub reason: String,
    #[serde(default)]
    pub declined: i64,
}

impl Queued {
    /// Why offers were of no use, in Marathon's words: `InsufficientCpus`.
    pub fn why(&self) -> Option<&str> {
        let Summary { reject_summary_last_offers, reject_summary_launch_attempt } = &self.processed_offers_summary;
        let all = reject_summary_last_offers.iter().chain(reject_summary_launch_attempt);
        all.filter(|rejected| rejected.declined > 0).max_by_key(|rejected| rejected.declined).map(|rejected| &*rejected.reason)
    }

    pub fn is_delayed(&self) -> bool {
        !self.delay.overdue && self.delay.time_left_seconds > 0
    }
}

/// `GET /v2/info`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub framework_id: Option<String>,
    /// Named with underscores, as the flags are.
    #[serde(default, rename = "marathon_config")]
    pub config: Config,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Config {
    pub min_revive_offers_interval: Option<u64>,
    pub max_instances_per_offer: Option<u64>,
    pub decline_offer_duration: Option<u64>,
    pub launch_token: Option<u64>,
    pub launch_token_refresh_interval: Option<u64>,
    pub mesos_role: Option<String>,
}

/// `GET /v2/leader`.
#[derive(Debug, Deserialize)]
pub struct Leader {
    pub leader: String,
}

/// All that is read at once.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub apps: Vec<AppDoc>,
    pub queue: Vec<Queued>,
}

/// An event of `GET /v2/events`. There are more; the ones below tell all that is needed.
#[allow(clippy::enum_variant_names, reason = "they are Marathon's")]
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "eventType", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Event {
    StatusUpdateEvent {
        task_id: Arc<str>,
        task_status: String,
        app_id: Arc<str>,
        #[serde(default)]
        slave_id: Option<Arc<str>>,
        #[serde(default)]
        host: Option<Arc<str>>,
        #[serde(default)]
        message: String,
        #[serde(default)]
        version: Option<Arc<str>>,
        timestamp: Arc<str>,
    },
    InstanceChangedEvent {
        instance_id: Arc<str>,
        condition: String,
        run_spec_id: Arc<str>,
        #[serde(default)]
        agent_id: Option<Arc<str>>,
        #[serde(default)]
        host: Option<Arc<str>>,
        #[serde(default)]
        run_spec_version: Option<Arc<str>>,
        timestamp: Arc<str>,
    },
    InstanceHealthChangedEvent {
        instance_id: Arc<str>,
        run_spec_id: Arc<str>,
        #[serde(default)]
        healthy: Option<bool>,
    },
    /// A health check has failed too often: the end that follows is a failure.
    UnhealthyInstanceKillEvent {
        app_id: Arc<str>,
        #[serde(default)]
        instance_id: Option<Arc<str>>,
    },
    DeploymentInfo {
        plan: Plan,
    },
    DeploymentSuccess {
        id: Arc<str>,
    },
    DeploymentFailed {
        id: Arc<str>,
    },
    AppTerminatedEvent {
        app_id: Arc<str>,
    },
    #[serde(other)]
    Other,
}

/// The event types that are asked for.
pub const EVENT_TYPES: [&str; 8] = [
    "status_update_event",
    "instance_changed_event",
    "instance_health_changed_event",
    "unhealthy_instance_kill_event",
    "deployment_info",
    "deployment_success",
    "deployment_failed",
    "app_terminated_event",
];

#[derive(Clone, Debug, Deserialize)]
pub struct Plan {
    pub id: Arc<str>,
    #[serde(default)]
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Step {
    #[serde(default)]
    pub actions: Vec<Action>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Action {
    #[serde(default)]
    pub app: Option<Arc<str>>,
}

impl Plan {
    pub fn apps(&self) -> impl Iterator<Item = &Arc<str>> {
        self.steps.iter().flat_map(|step| &step.actions).filter_map(|action| action.app.as_ref())
    }
}

/// The instance of a task, and the how-manieth task of it this is: `shop_web.instance-UUID._app.2` is the second of
/// `shop_web.instance-UUID`. Of a form that is not known, the task is the instance.
pub fn instance_of(task: &str) -> (&str, u32) {
    let parsed = || {
        let (rest, incarnation) = task.rsplit_once('.')?;
        let (instance, _container) = rest.rsplit_once('.')?;
        instance.contains(".instance-").then_some(())?;
        Some((instance, incarnation.parse().ok()?))
    };
    parsed().unwrap_or((task, 1))
}

/// The first task of an instance: of one that has only just found its place, nothing else is known yet.
pub fn first_task(instance: &str) -> Arc<str> {
    if instance.contains(".instance-") { format!("{instance}._app.1").into() } else { instance.into() }
}

/// The app of an instance or task, by its id: `shop_web.instance-UUID._app.2` is of `/shop/web`.
pub fn app_of(task: &str) -> Option<String> {
    let (path, _) = task.split_once(".instance-")?;
    Some(format!("/{}", path.replace('_', "/")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn tasks_tell_their_instance_and_app() {
        let task = "shop_a-b.instance-31441e25-e6b6-11f1-a5d8-02fc00000001._app.12";
        assert_eq!(instance_of(task), ("shop_a-b.instance-31441e25-e6b6-11f1-a5d8-02fc00000001", 12));
        assert_eq!(app_of(task).as_deref(), Some("/shop/a-b"));
        assert_eq!((instance_of("web.31441e25"), app_of("web.31441e25")), (("web.31441e25", 1), None));
    }

    #[test]
    fn events_are_read_as_they_were_recorded() {
        let read = |text: &str| serde_json::from_str::<Event>(text).unwrap();
        let changed = read(
            r#"{"instanceId":"s1.instance-9515e31d","condition":"Scheduled","runSpecId":"/s1","agentId":null,"host":null,
            "runSpecVersion":"2026-11-22T20:30:39.969Z","timestamp":"2026-11-22T20:30:39.997Z","eventType":"instance_changed_event"}"#,
        );
        assert!(matches!(changed, Event::InstanceChangedEvent { agent_id: None, condition, .. } if condition == "Scheduled"));
        let info = read(
            r#"{"plan":{"id":"e91d","steps":[{"actions":[{"action":"StartApplication","app":"/s1"}]},{"actions":[{"action":"ScalePod",
            "pod":"/p"}]}],"version":"x"},"currentStep":{"actions":[]},"eventType":"deployment_info","timestamp":"x"}"#,
        );
        let Event::DeploymentInfo { plan } = info else { panic!("{info:?}") };
        assert_eq!((plan.apps().map(|id| &**id).collect::<Vec<_>>(), &*plan.id), (vec!["/s1"], "e91d"));
        assert!(matches!(read(r#"{"eventType":"event_stream_attached","remoteAddress":"x"}"#), Event::Other));
    }

    #[test]
    fn the_reason_of_a_queued_app_is_what_most_offers_lacked() {
        let queued: Queued = serde_json::from_str(
            r#"{"count":3,"delay":{"timeLeftSeconds":0,"overdue":true},"app":{"id":"/big"},"processedOffersSummary":{
            "rejectSummaryLastOffers":[{"reason":"UnfulfilledRole","declined":0,"processed":2},
            {"reason":"InsufficientCpus","declined":2,"processed":2}],"rejectSummaryLaunchAttempt":[]}}"#,
        )
        .unwrap();
        assert_eq!((queued.why(), queued.is_delayed()), (Some("InsufficientCpus"), false));
    }
}
