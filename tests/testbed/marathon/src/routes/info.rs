//! What Marathon says of itself.

use super::{Answer, found, json as json_response, not_allowed};
use crate::http::{Request, Response};
use crate::leader::Leader;
use serde_json::{Value, json};
use std::time::Duration;

/// Between the answer to an abdication and the end of the process.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// In the type that is asked for.
pub fn ping(request: &Request) -> Response {
    let is_named = |mime: &str| request.header("accept").is_some_and(|accept| accept.contains(mime));
    let (mime, body) = match () {
        () if is_named("application/json") => ("application/json", "\"pong\""),
        () if is_named("text/html") => ("text/html", "pong"),
        () => ("text/plain", "pong"),
    };
    let response =
        Response::new(200).header("Content-Type", mime).header("Vary", "Accept").header("Vary", "Accept-Encoding, User-Agent");
    Response { body: body.as_bytes().to_vec(), ..response }
}

/// A few of Marathon's hundreds.
pub fn metrics(leader: &Leader) -> Response {
    let (apps, deployments, instances) =
        leader.read(|core, _| (core.state.apps.len(), core.state.deployments.len(), core.state.instances.len()));
    let counters = json!({});
    let gauges = json!({
        "marathon.apps.active.gauge": { "value": apps }, "marathon.deployments.active.gauge": { "value": deployments },
        "marathon.instances.gauge": { "value": instances },
    });
    found(&json!({ "version": "4.0.0", "counters": counters, "gauges": gauges, "histograms": {}, "meters": {}, "timers": {} }))
}

pub fn info(leader: &Leader) -> Response {
    let settings = &leader.settings;
    let framework_id = leader.read(|core, _| core.state.framework_id.clone());
    let config = json!({
        "access_control_allow_origin": null, "checkpoint": true, "decline_offer_duration": settings.decline_offer_duration,
        "default_network_name": null, "env_vars_prefix": null, "executor": "//cmd", "failover_timeout": 604_800, "features": [],
        "framework_name": settings.framework_name, "ha": true, "hostname": "127.0.0.1", "launch_token": settings.launch_tokens,
        "launch_token_refresh_interval": settings.launch_token_refresh_interval, "leader_proxy_connection_timeout_ms": 5000,
        "leader_proxy_read_timeout_ms": 10_000, "local_port_max": 20_000, "local_port_min": 10_000,
        "master": settings.master.join(","), "max_instances_per_offer": settings.max_instances_per_offer,
        "mesos_bridge_name": "mesos-bridge", "mesos_heartbeat_failure_threshold": 5, "mesos_heartbeat_interval": 15_000,
        "mesos_leader_ui_url": format!("http://{}/", settings.master.first().map_or("", String::as_str)), "mesos_role": "*",
        "mesos_user": "root", "new_group_enforce_role": "Off", "min_revive_offers_interval": settings.min_revive_offers_interval,
        "offer_matching_timeout": settings.offer_matching_timeout, "on_elected_prepare_timeout": 180_000, "reconciliation_initial_delay": 15_000,
        "reconciliation_interval": 600_000, "scale_apps_initial_delay": settings.scale_apps_initial_delay,
        "scale_apps_interval": settings.scale_apps_interval, "store_cache": true, "task_launch_confirm_timeout": 300_000,
        "task_launch_timeout": 300_000, "task_lost_expunge_initial_delay": 300_000, "task_lost_expunge_interval": 30_000,
        "task_reservation_timeout": 20_000, "webui_url": null, "maintenance_mode": true,
    });
    let zookeeper = json!({
        "zk": format!("file://{}", settings.testbed_state.display()), "zk_compression": true, "zk_compression_threshold": 65_536,
        "zk_connection_timeout": 10_000, "zk_max_node_size": 1_024_000, "zk_max_versions": 50,
        "zk_session_timeout": settings.zk_session_timeout, "zk_timeout": 10_000,
    });
    found(&json!({
        "name": "marathon", "version": "1.11.26", "buildref": "microscaler-testbed", "elected": true,
        "leader": settings.address(), "frameworkId": framework_id, "marathon_config": config, "zookeeper_config": zookeeper,
        "http_config": { "http_port": settings.http_port, "https_port": 8443 },
    }))
}

/// Who leads; or the end of that. A leader that abdicates ends, and wants a supervisor.
pub fn leader(leader: &Leader, request: &Request) -> Answer {
    match request.method.as_str() {
        "GET" | "HEAD" => Ok(found(&json!({ "leader": leader.settings.address() }))),
        "DELETE" => {
            leader.abdicate(LAST_WORDS);
            Ok(json_response(200, &json!({ "message": "Leadership abdicated", "details": Value::Array(Vec::new()) })))
        }
        _ => not_allowed(),
    }
}
