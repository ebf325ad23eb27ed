//! `microscaler get`: the truth at a glance.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::bail;
use clap::ValueEnum;
use futures::StreamExt;
use jiff::Timestamp;
use kube::ResourceExt;

use super::client::Server;
use super::table;
use crate::api::pool::Backend;
use crate::api::status::{AppStatus, PoolStatus};
use crate::api::{MicroscaledApp, MicroscalingPool};
use crate::engine::clock;
use crate::engine::report::TaskReport;
use crate::server::objects::List;
use crate::server::watch::Snapshot;

/// Show apps, pools or tasks of a running Microscaler.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  microscaler get apps
  microscaler get apps -w                 redrawn in place as it changes
  microscaler get app search -o yaml
  microscaler get tasks -o wide")]
pub struct Args {
    /// What to show.
    #[arg(value_enum, default_value_t = Kind::Apps)]
    kind: Kind,
    /// Only this one. For tasks: only those of this app.
    name: Option<String>,
    /// Only this namespace. Default: all.
    #[arg(long, short)]
    namespace: Option<String>,

    /// All namespaces, which is the default.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Go on showing changes, until Ctrl-C. On a terminal the table is redrawn in place.
    #[arg(long, short)]
    watch: bool,
    /// wide adds columns; json and yaml show the whole objects.
    #[arg(long, short, value_enum)]
    output: Option<Output>,
    /// Leave out the line of column names.
    #[arg(long)]
    no_headers: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    #[value(aliases = ["app", "msa", "microscaledapp", "microscaledapps"])]
    Apps,
    #[value(aliases = ["pool", "mpool", "microscalingpool", "microscalingpools"])]
    Pools,
    #[value(alias = "task")]
    Tasks,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Wide,
    Json,
    Yaml,
}

/// Shows it.
///
/// # Errors
/// When the server is not there, or what is asked for is not.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.watch {
        return watch(&args).await;
    }
    match args.kind {
        Kind::Apps => {
            let list: List<MicroscaledApp> = args.server.get("/v1/apps").await?;
            list.problems.iter().for_each(|problem| anstream::eprintln!("Warning: {problem}"));
            args.show(list.items, Args::app_rows)
        }
        Kind::Pools => args.show(args.server.get::<List<MicroscalingPool>>("/v1/pools").await?.items, Args::pool_rows),
        Kind::Tasks => args.show_tasks(args.server.tasks("").await?),
    }
}

impl Args {
    fn wide(&self) -> bool {
        self.output == Some(Output::Wide)
    }

    fn selects(&self, namespace: Option<&str>, name: &str) -> bool {
        self.namespace.as_deref().is_none_or(|wanted| Some(wanted) == namespace)
            && self.name.as_deref().is_none_or(|wanted| wanted == name)
    }

    fn select<T: ResourceExt>(&self, items: Vec<T>) -> anyhow::Result<Vec<T>> {
        let items: Vec<T> =
            items.into_iter().filter(|item| self.selects(item.namespace().as_deref(), &item.name_any())).collect();
        match (&self.name, items.is_empty()) {
            (Some(name), true) => bail!("\"{name}\" not found"),
            _ => Ok(items),
        }
    }

    fn show<T: ResourceExt + serde::Serialize>(
        &self,
        items: Vec<T>,
        rows: impl Fn(&Self, &[T]) -> (Vec<&'static str>, Vec<Vec<String>>),
    ) -> anyhow::Result<ExitCode> {
        let items = self.select(items)?;
        // One object that was asked for by name stands alone, as with kubectl.
        let whole = match (&self.name, &items[..]) {
            (Some(_), [one]) => serde_json::to_value(one)?,
            _ => serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items}),
        };
        if self.print_whole(&whole)? {
            return Ok(ExitCode::SUCCESS);
        }
        let (header, rows) = rows(self, &items);
        self.print_table(&header, &rows)
    }

    fn show_tasks(&self, tasks: Vec<TaskReport>) -> anyhow::Result<ExitCode> {
        let tasks: Vec<TaskReport> = tasks.into_iter().filter(|task| self.selects(Some(&task.namespace), &task.app)).collect();
        if self.print_whole(&tasks)? {
            return Ok(ExitCode::SUCCESS);
        }
        let mut header = vec!["APP", "PHASE", "READY", "HOST", "AGE"];
        if self.wide() {
            header.extend(["NAMESPACE", "POOL", "VERSION", "AGENT", "ID"]);
        }
        let row = |task: &TaskReport| {
            let age = table::duration(i64::try_from(task.age_milliseconds / 1000).unwrap_or(i64::MAX));
            let mut row = vec![task.app.clone(), format!("{:?}", task.phase), task.ready.to_string(), task.host.clone(), age];
            if self.wide() {
                let version = task.version.clone().unwrap_or_else(|| "<unknown>".to_owned());
                row.extend([task.namespace.clone(), task.pool.clone(), version, task.agent.clone(), task.id.clone()]);
            }
            row
        };
        self.print_table(&header, &tasks.iter().map(row).collect::<Vec<_>>())
    }

    /// Prints the object as JSON or YAML if that is asked for.
    fn print_whole(&self, object: &impl serde::Serialize) -> anyhow::Result<bool> {
        let text = match self.output {
            Some(Output::Json) => serde_json::to_string_pretty(object)? + "\n",
            Some(Output::Yaml) => serde_saphyr::to_string(object)?,
            Some(Output::Wide) | None => return Ok(false),
        };
        std::io::stdout().write_all(text.as_bytes())?;
        Ok(true)
    }

    fn print_table(&self, header: &[&str], rows: &[Vec<String>]) -> anyhow::Result<ExitCode> {
        if rows.is_empty() {
            anstream::eprintln!("No resources found.");
        } else {
            let mut out = std::io::stdout().lock();
            for line in table::render((!self.no_headers).then_some(header), rows) {
                writeln!(out, "{line}")?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn app_rows(&self, apps: &[MicroscaledApp]) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let namespaced = apps.iter().any(|app| app.namespace().is_some_and(|namespace| namespace != "default"));
        let mut header = if namespaced { vec!["NAMESPACE"] } else { Vec::new() };
        header.extend(["NAME", "PRIORITY", "WANTED", "GRANTED", "RUNNING", "READY", "STATUS"]);
        // Who watches wants to see how fast the last change was; an age would only keep the rows from ever staying the same.
        header.push(if self.watch { "TOOK" } else { "AGE" });
        if self.wide() {
            header.extend(if self.watch { &["DEMAND", "POOL", "REASON"][..] } else { &["TOOK", "DEMAND", "POOL", "REASON"] });
        }
        let now = clock::timestamp();
        (header, apps.iter().map(|app| self.app_row(app, namespaced, now)).collect())
    }

    fn app_row(&self, app: &MicroscaledApp, namespaced: bool, now: Timestamp) -> Vec<String> {
        let status = app.status.clone().unwrap_or_default();
        let mut row = if namespaced { vec![app.namespace().unwrap_or_default()] } else { Vec::new() };
        row.extend([app.name_any(), app.spec.priority.to_string()]);
        row.extend([status.wanted, status.granted, status.running, status.ready].map(|count| count.to_string()));
        row.push(status.phase.map_or_else(|| "<unknown>".to_owned(), |phase| phase.to_string()));
        if !self.watch {
            row.push(table::age(app.creation_timestamp().map(|time| time.0), now));
        }
        if self.watch || self.wide() {
            row.push(last(&status));
        }
        if self.wide() {
            row.extend([demand(&status), app.spec.pool.clone(), status.reason]);
        }
        row
    }

    fn pool_rows(&self, pools: &[MicroscalingPool]) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let mut header = vec!["NAME", "CONNECTED", "AGENTS", "TASKS", "USED", "FREE", "LACKS"];
        if self.wide() {
            header.extend(["MASTER", "FRAMEWORK", "MESSAGE"]);
        }
        let row = |pool: &MicroscalingPool| {
            let status = pool.status.clone().unwrap_or_default();
            let connected = status.conditions.iter().find(|condition| condition.type_ == "Connected");
            let connected = connected.map_or_else(|| "Unknown".to_owned(), |condition| condition.status.clone());
            let lacks = status.shortfall.map_or_else(|| "-".to_owned(), |shortfall| shortfall.summary);
            let (agents, tasks) = (status.agents.to_string(), status.tasks.to_string());
            let mut row = vec![pool.name_any(), connected, agents, tasks, status.used, status.free, lacks];
            if self.wide() {
                row.extend([status.master.unwrap_or_default(), status.framework_id.unwrap_or_default(), status.message]);
            }
            row
        };
        (header, pools.iter().map(row).collect())
    }
}

/// The time of the last convergence.
fn last(status: &AppStatus) -> String {
    status.last_convergence_milliseconds.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0}ms"))
}

fn demand(status: &AppStatus) -> String {
    let one = |metric: &crate::api::status::DemandStatus| {
        let value = metric.value.map_or_else(|| "?".to_owned(), |value| format!("{}", (value * 10.0).round() / 10.0));
        format!("{}={value}", metric.name)
    };
    if status.demand.is_empty() { "-".to_owned() } else { status.demand.iter().map(one).collect::<Vec<_>>().join(",") }
}

/// Shows every change until the server goes away.
async fn watch(args: &Args) -> anyhow::Result<ExitCode> {
    if args.kind == Kind::Tasks {
        bail!("tasks cannot be watched: use get apps -w, or the events at {}/v1/events", args.server.server);
    }
    if matches!(args.output, Some(Output::Json | Output::Yaml)) {
        bail!("-w shows a table: for objects as they change, read {}/v1/watch", args.server.server);
    }
    let mut snapshots = Box::pin(args.server.watch::<Snapshot>("/v1/watch").await?);
    let mut screen = Screen { in_place: std::io::stdout().is_terminal(), drawn: 0, shown: Vec::new() };
    while let Some(snapshot) = snapshots.next().await {
        let Snapshot { apps, pools } = snapshot?;
        let summary: Vec<String> = pools.items.iter().flat_map(pool_lines).collect();
        let (header, rows) = match args.kind {
            Kind::Apps => args.app_rows(&args.select(apps.items)?),
            Kind::Pools | Kind::Tasks => args.pool_rows(&args.select(pools.items)?),
        };
        let lines = table::render((!args.no_headers).then_some(&header[..]), &rows);
        if screen.in_place { screen.redraw(&lines, &summary)? } else { screen.append(lines)? }
    }
    bail!("the server has ended")
}

/// A pool in a few words, with the times that matter.
fn pool_lines(pool: &MicroscalingPool) -> Vec<String> {
    let status: PoolStatus = pool.status.clone().unwrap_or_default();
    let name = pool.name_any();
    let mut lines = vec![format!("pool {name}: {} agents, {} tasks, {}", status.agents, status.tasks, status.used)];
    if let (Some(median), Some(p99)) = (status.median_reaction_milliseconds, status.p99_reaction_milliseconds) {
        let calls = match pool.spec.backend {
            Backend::Mesos(_) => "the calls to Mesos",
            Backend::Marathon(_) => "the request to Marathon",
        };
        lines.push(format!("from a change of demand to {calls}: {median:.2} ms (p99 {p99:.2} ms)"));
    }
    if let (Some(median), Some(p99)) = (status.median_launch_milliseconds, status.p99_launch_milliseconds) {
        lines.push(format!("from there until a replica runs: {median:.0} ms (p99 {p99:.0} ms)"));
    }
    lines.extend(status.shortfall.as_ref().map(|shortfall| format!("too small: it lacks room for {}", shortfall.summary)));
    let ready = status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    lines.extend((!ready).then(|| format!("not in control: {}", status.message)));
    lines
}

/// The part of the terminal that is redrawn.
struct Screen {
    in_place: bool,
    drawn: usize,
    /// The rows as last shown, where changes are appended.
    shown: Vec<String>,
}

impl Screen {
    fn redraw(&mut self, lines: &[String], summary: &[String]) -> std::io::Result<()> {
        let (width, height) = terminal_size();
        // Up to where the table began, and clear from there.
        let mut text = if self.drawn > 0 { format!("\x1b[{}A\x1b[J", self.drawn) } else { String::new() };
        // Lines that scroll away cannot be drawn over, nor can one that wraps be counted.
        let room = height.saturating_sub(summary.len() + 1);
        let shown = if lines.len() > room { &lines[..room.saturating_sub(1)] } else { lines };
        let more = (shown.len() < lines.len()).then(|| format!("… and {} more", lines.len() - shown.len()));
        self.drawn = 0;
        for line in shown.iter().chain(&more).chain(summary) {
            self.drawn += 1;
            text.extend(line.chars().take(width));
            text.push('\n');
        }
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// As `kubectl get -w`: only rows that have changed.
    fn append(&mut self, lines: Vec<String>) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        for line in lines.iter().filter(|line| !self.shown.contains(line)) {
            writeln!(out, "{line}")?;
        }
        self.shown = lines;
        out.flush()
    }
}

/// Columns and rows.
fn terminal_size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
    size.map_or((80, 24), |size| (size.ws_col.into(), size.ws_row.into()))
}
