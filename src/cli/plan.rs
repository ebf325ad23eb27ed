//! `microscaler plan`: rehearse a decision.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::{run, table};
use crate::api::pool::Backend;
use crate::api::validated::{BaseKind, Key, Pool};
use crate::backend::{marathon, mesos};
use crate::engine::{clock, snapshot};
use crate::policy::plan::{Plan, Stop};
use crate::policy::shortfall::Shortfall;
use crate::policy::world::{AgentIx, Reading, World};
use crate::policy::{Memory, decide};
use crate::store::{Specs, directory};

/// Print what would be done, and why, without doing it.
///
/// Looks at the agents and tasks of the cluster as they are now (reading only: nothing is registered there), takes the metrics as
/// given, and decides once. A metric that is not given counts as not known.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  microscaler plan -f manifests/demo --demand default/search.waiting=200
  microscaler plan -f apps/ --demand shop/search.waiting=200 --demand shop/mail.depth=0")]
pub struct Args {
    #[command(flatten)]
    source: run::Source,

    /// Value of a metric. Without a namespace, `default` is meant. May be repeated.
    #[arg(long = "demand", value_name = "[NAMESPACE/]APP.METRIC=VALUE", value_parser = parse_demand)]
    demands: Vec<(Key, String, f64)>,
}

fn parse_demand(text: &str) -> Result<(Key, String, f64), String> {
    let wrong = || format!("'{text}' is not of the form NAMESPACE/APP.METRIC=VALUE, such as shop/search.waiting=200");
    let (path, value) = text.rsplit_once('=').ok_or_else(wrong)?;
    let value: f64 = value.parse().map_err(|_| wrong())?;
    let (app, metric) = path.rsplit_once('.').ok_or_else(wrong)?;
    let (namespace, name) = app.split_once('/').unwrap_or(("default", app));
    Ok((Key::new(namespace, name), metric.to_owned(), value))
}

/// Prints the plan of each pool.
///
/// # Errors
/// When specs or cluster cannot be read, or a metric is named that no app has.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let specs = directory::read(Some(&args.source.manifests), run::default_pool(&args.source.mesos)?)?;
    for problem in &specs.problems {
        anstream::eprintln!("Warning: {}", problem.message);
    }
    if specs.pools.is_empty() {
        bail!("no MicroscalingPool in {}: add one, or give --mesos http://MASTER:5050", args.source.manifests.display());
    }
    let mut out = String::new();
    for spec in specs.pools.values() {
        out += &plan_pool(&spec.pool, &specs, &args.demands).await?;
    }
    std::io::stdout().write_all(out.as_bytes())?;
    Ok(if specs.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn plan_pool(pool: &Pool, specs: &Specs, demands: &[(Key, String, f64)]) -> anyhow::Result<String> {
    let now = clock::now();
    let mut world = World::default();
    snapshot::take_specs(&mut world, specs, pool);
    let context = || format!("pool {}", pool.key);
    match &pool.backend {
        Backend::Mesos(_) => mesos::survey::look(pool, &mut world, now).await.with_context(context)?,
        Backend::Marathon(_) => marathon::survey::look(pool, &mut world, now).await.with_context(context)?,
    }
    for (app, metric, value) in demands {
        set_reading(&mut world, specs, app, metric, (*value, now))?;
    }
    let (plan, _) = decide(&world, Memory::default(), now);
    Ok(describe(pool, &world, &plan))
}

fn set_reading(world: &mut World, specs: &Specs, app: &Key, metric: &str, value: (f64, u64)) -> anyhow::Result<()> {
    if !specs.apps.contains_key(app) {
        bail!(
            "--demand: there is no app {app}; there are: {}",
            specs.apps.keys().map(Key::as_str).collect::<Vec<_>>().join(", ")
        );
    }
    // An app of another pool is not in this world.
    let Some(view) = world.apps.get_mut(app) else { return Ok(()) };
    let Some(spec) = &view.spec else { return Ok(()) };
    let Some(index) = spec.demand.iter().position(|m| &*m.name == metric) else {
        let names: Vec<&str> = spec.demand.iter().map(|m| &*m.name).collect();
        bail!(
            "--demand: app {app} has no metric {metric}; it has: {}",
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        );
    };
    view.readings[index] = Reading { value: Some(value), ..Reading::default() };
    Ok(())
}

/// What finds no room, if anything does.
fn lacked(shortfall: &Shortfall) -> String {
    let apps: Vec<String> = shortfall.lacks.iter().map(|lack| format!("{} of {}", lack.replicas, lack.app)).collect();
    let agents =
        shortfall.agents().zip(shortfall.agent).map(|(agents, size)| format!("; {agents} more agents of {size} would do"));
    let text = format!("  no room for {}{}\n", apps.join(", "), agents.unwrap_or_default());
    if shortfall.is_none() { String::new() } else { text }
}

fn describe(pool: &Pool, world: &World, plan: &Plan) -> String {
    let host = |agent: AgentIx| world.agents.get(agent.0 as usize).map(|agent| agent.hostname.to_string()).unwrap_or_default();
    let mut text = format!("Pool {}: {} agents\n", pool.key, world.agents.iter().filter(|agent| agent.is_open()).count());
    let rows = plan.verdicts.iter().map(|(app, verdict)| {
        let counts = [verdict.wanted, verdict.granted, verdict.running].map(|count| count.to_string());
        [vec![app.to_string()], counts.to_vec(), vec![verdict.phase.to_string(), verdict.reason()]].concat()
    });
    let rows: Vec<Vec<String>> = rows.collect();
    text += &table::indented(&table::render(Some(&["APP", "WANTED", "GRANTED", "RUNNING", "STATUS", "REASON"]), &rows));

    text += &lacked(&plan.shortfall);
    let mut steps: BTreeMap<(u8, String), usize> = BTreeMap::new();
    for Stop { app, why, .. } in &plan.stops {
        *steps.entry((0, format!("stop  {app}: {why}"))).or_default() += 1;
    }
    for start in &plan.starts {
        *steps.entry((1, format!("start {} on {}", start.app, host(start.agent)))).or_default() += 1;
    }
    for wait in &plan.waits {
        let what = if wait.free { "once its free room is offered" } else { "once that room has come free" };
        *steps.entry((2, format!("start {} on {} {what}", wait.app, host(wait.agent)))).or_default() += 1;
    }
    for prepare in &plan.prepare {
        let base = world.apps.get(&prepare.app).and_then(|view| view.spec.as_ref()?.base.as_ref());
        let what = if base.is_some_and(|base| base.kind == BaseKind::Image) { "fetch the image" } else { "start the executor" };
        *steps.entry((3, format!("{what} of {} on {}", prepare.app, host(prepare.agent)))).or_default() += 1;
    }
    for retire in &plan.retire {
        *steps.entry((4, format!("end   executor {} on {}", retire.executor, host(retire.agent)))).or_default() += 1;
    }
    if steps.is_empty() {
        return text + "  nothing to do\n";
    }
    text + &table::indented(&steps.iter().map(|((_, step), count)| format!("{count:>4} x {step}")).collect::<Vec<_>>())
}
