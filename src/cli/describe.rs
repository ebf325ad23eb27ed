//! `microscaler describe`: one object in full.

use std::io::Write;
use std::process::ExitCode;

use anyhow::bail;
use clap::ValueEnum;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::client::Server;
use super::table;
use crate::api::container::Launch;
use crate::api::status::{AppStatus, ForecastStatus};
use crate::api::{MicroscaledApp, MicroscalingPool};
use crate::engine::clock;
use crate::engine::report::{Event, TaskReport};
use crate::server::objects::List;

/// Show one app or pool in full, with its conditions and events.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  microscaler describe app search
  microscaler describe app search -n shop
  microscaler describe pool default")]
pub struct Args {
    #[arg(value_enum)]
    kind: Kind,
    name: String,
    #[arg(long, short, default_value = "default")]
    namespace: String,
    #[command(flatten)]
    server: Server,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    #[value(aliases = ["apps", "msa", "microscaledapp", "microscaledapps"])]
    App,
    #[value(aliases = ["pools", "mpool", "microscalingpool", "microscalingpools"])]
    Pool,
}

/// Shows it.
///
/// # Errors
/// When the server is not there or does not know the object.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let path = format!("{}/{}", args.namespace, args.name);
    let text = match args.kind {
        Kind::App => {
            let app: MicroscaledApp = args.server.get(&format!("/v1/apps/{path}")).await?;
            let tasks = args.server.tasks(&format!("?namespace={}&app={}", args.namespace, args.name)).await?;
            let events: List<Event> = args.server.get(&format!("/v1/events/recent?app={path}")).await?;
            app_text(&args, &app, &tasks, &events.items)
        }
        Kind::Pool => {
            let pools: List<MicroscalingPool> = args.server.get("/v1/pools").await?;
            let wanted = |pool: &&MicroscalingPool| {
                pool.metadata.name.as_ref() == Some(&args.name) && pool.metadata.namespace.as_ref() == Some(&args.namespace)
            };
            let Some(pool) = pools.items.iter().find(wanted) else { bail!("pool \"{path}\" not found") };
            let events: List<Event> = args.server.get("/v1/events/recent").await?;
            let of_pool: Vec<Event> =
                events.items.into_iter().filter(|event| event.pool == path && event.app.is_none()).collect();
            pool_text(&args, pool, &of_pool)
        }
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn app_text(args: &Args, app: &MicroscaledApp, tasks: &[TaskReport], events: &[Event]) -> String {
    let status = app.status.clone().unwrap_or_default();
    let max = app.spec.max_replicas.map_or_else(|| "as many as the pool holds".to_owned(), |max| max.to_string());
    let last = status.last_convergence_milliseconds.map_or_else(|| "<none>".to_owned(), |ms| format!("took {ms} ms to run"));
    let mut fields = vec![
        ("Name", args.name.clone()),
        ("Namespace", args.namespace.clone()),
        ("Pool", app.spec.pool.clone()),
        ("Priority", app.spec.priority.to_string()),
        ("Replicas", format!("at least {}, at most {max}", app.spec.min_replicas)),
        ("Status", status.phase.map_or_else(|| "<unknown>".to_owned(), |phase| phase.to_string())),
        ("Reason", status.reason.clone()),
        ("Counts", counts(&status)),
    ];
    fields.extend(prepared(app, &status));
    fields.extend([
        ("Last change", last),
        ("Generation", format!("{} (observed {})", app.metadata.generation.unwrap_or(0), status.observed_generation)),
    ]);
    let mut text = fields_text(&fields);
    text += &section(
        "Demand",
        &["NAME", "VALUE", "AGE", "STATE", "MESSAGE"],
        status.demand.iter().map(|metric| {
            let value = metric.value.map_or_else(|| "-".to_owned(), |value| value.to_string());
            let age = metric.age_milliseconds.map_or_else(|| "-".to_owned(), |age| format!("{age}ms"));
            let message: Vec<String> = metric.message.iter().cloned().chain(metric.forecast.as_ref().map(foreseen)).collect();
            vec![metric.name.clone(), value, age, metric.state.to_string(), message.join("; ")]
        }),
    );
    text += &section(
        "Tasks",
        &["HOST", "PHASE", "READY", "AGE", "ID"],
        tasks.iter().map(|task| {
            let age = table::duration(i64::try_from(task.age_milliseconds / 1000).unwrap_or(i64::MAX));
            vec![task.host.clone(), format!("{:?}", task.phase), task.ready.to_string(), age, task.id.clone()]
        }),
    );
    text + &conditions_text(&status.conditions) + &events_text(events)
}

/// What a metric is expected to be, and whether that is believed.
fn foreseen(forecast: &ForecastStatus) -> String {
    let heeded = match (forecast.error_percent, forecast.trusted) {
        (Some(error), true) => format!("off by {error} % of late"),
        (Some(error), false) => format!("not heeded: off by {error} % of late"),
        (None, _) => "not heeded: there is too little to compare it with".to_owned(),
    };
    format!("expected to reach {} ({heeded})", forecast.value)
}

/// On how many agents executors or images are, and whether the executors hold replicas to what they may use.
fn prepared(app: &MicroscaledApp, status: &AppStatus) -> Option<(&'static str, String)> {
    let agents = format!("{} agents", status.prepared.as_ref()?.replace('/', " of "));
    if app.spec.template.as_ref().is_none_or(|template| template.launch == Launch::Isolated) {
        return Some(("Image", agents));
    }
    let unlimited = status.conditions.iter().find(|condition| condition.type_ == "LimitsEnforced" && condition.status == "False");
    let but = unlimited.map(|condition| format!("; {}", condition.message)).unwrap_or_default();
    Some(("Executors", agents + &but))
}

fn counts(status: &AppStatus) -> String {
    let AppStatus { wanted, granted, running, ready, starting, stopping, .. } = status;
    format!("{wanted} wanted, {granted} granted, {running} running, {ready} ready, {starting} starting, {stopping} stopping")
}

fn pool_text(args: &Args, pool: &MicroscalingPool, events: &[Event]) -> String {
    let status = pool.status.clone().unwrap_or_default();
    let milliseconds = |time: Option<f64>| time.map_or_else(|| "<none>".to_owned(), |time| format!("{time} ms"));
    let (median, p99) = (milliseconds(status.median_reaction_milliseconds), milliseconds(status.p99_reaction_milliseconds));
    let launch = status.median_launch_milliseconds.map(|median| {
        let p99 = milliseconds(status.p99_launch_milliseconds);
        ("Launch", format!("median {median} ms, p99 {p99}"))
    });
    let mut fields = vec![
        ("Name", args.name.clone()),
        ("Namespace", args.namespace.clone()),
        ("Master", status.master.unwrap_or_else(|| "<none>".to_owned())),
        ("Framework", status.framework_id.unwrap_or_else(|| "<none>".to_owned())),
        ("Agents", status.agents.to_string()),
        ("Tasks", status.tasks.to_string()),
        ("Used", status.used),
        ("Free", status.free),
        ("Reaction", format!("median {median}, p99 {p99}")),
    ];
    fields.extend(launch);
    fields.push(("Message", status.message));
    fields_text(&fields) + &conditions_text(&status.conditions) + &events_text(events)
}

fn fields_text(fields: &[(&str, String)]) -> String {
    let line = |(name, value): &(&str, String)| format!("{:<14}{value}", format!("{name}:"));
    fields.iter().map(line).collect::<Vec<_>>().join("\n") + "\n"
}

fn section(title: &str, header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        return format!("{title}: <none>\n");
    }
    format!("{title}:\n{}", table::indented(&table::render(Some(header), &rows)))
}

fn conditions_text(conditions: &[Condition]) -> String {
    let now = clock::timestamp();
    section(
        "Conditions",
        &["TYPE", "STATUS", "SINCE", "REASON"],
        conditions.iter().map(|condition| {
            let since = table::age(Some(condition.last_transition_time.0), now);
            vec![condition.type_.clone(), condition.status.clone(), since, condition.reason.clone()]
        }),
    )
}

fn events_text(events: &[Event]) -> String {
    let now = clock::timestamp();
    section(
        "Events",
        &["TYPE", "REASON", "AGE", "MESSAGE"],
        events.iter().map(|event| {
            vec![format!("{:?}", event.kind), event.reason.clone(), table::age(Some(event.at), now), event.message.clone()]
        }),
    )
}
