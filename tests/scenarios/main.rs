//! Scenarios in simulated time: what happens is in `cases/*.txt`, what comes of it in `snapshots/`.
//!
//! A case is read line by line:
//!
//! ```text
//! # why this case is there
//! cluster start=50 stop=100 offer=20     delays in milliseconds: launch to running, end asked for to ended, free to offered
//! agents 2 cpu=4 memory=4096 rack=x      attributes are all other words
//! headroom cpu=2 memory=128              and `limits` alike
//! executor cpu=0.1 memory=32 idle=5000   what an executor uses, and how long it is kept that nobody wants
//! app search priority=1 min=1 max=9 average=10 cpu=1     or value=, rate=, queue=, utilization=, replicas=, remainder=, spread=, where=rack:x, pooled=GROUP, …
//! at 1000 search=40                      a value is pushed; others: failing, set, suspend, template, breaks, agent-lost, executor-dies …
//! until 5000
//! ```
#![allow(clippy::unwrap_used)]

mod sim;

use std::fmt::Write as _;

use microscaler::api::app::{PolicyKind, SelectPolicy};
use microscaler::api::portion::Portion;
use microscaler::api::protection::PreemptionBudget;
use microscaler::api::template::{Operator, Requirement};
use microscaler::api::validated::{App, Panic, RateLimit, Rung, Spread, StandIn, TargetValue, Version, Wait};
use microscaler::policy::plan::{Plan, StopReason};
use microscaler::policy::resources::Resources;
use microscaler::policy::world::AgentIx;
use sim::bases::{image, pooled};
use sim::{Habits, Sim, app, key, metric};

#[test]
fn scenarios() {
    let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios/cases");
    let mut paths: Vec<_> = std::fs::read_dir(cases).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut settings = insta::Settings::clone_current();
    settings.set_omit_expression(true);
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| {
        for path in paths {
            let case = std::fs::read_to_string(&path).unwrap();
            insta::assert_snapshot!(path.file_stem().unwrap().to_str().unwrap(), format!("{case}\n{}", play(&case)));
        }
    });
}

/// Plays a case and writes down every decision that says something new.
fn play(case: &str) -> String {
    let mut stage = Stage { sim: Sim::new(Habits::default()), log: String::new(), said: String::new() };
    for line in case.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["at", at, rest @ ..] => {
                stage.pass(at.parse().unwrap());
                let _ = writeln!(stage.log, "{:>6}  > {}", stage.sim.now - 1, rest.join(" "));
                stage.happen(rest);
                stage.decide();
            }
            ["until", at] => stage.pass(at.parse().unwrap()),
            words => stage.happen(words),
        }
    }
    stage.log
}

struct Stage {
    sim: Sim,
    log: String,
    said: String,
}

impl Stage {
    /// Decides whenever something happens until then.
    fn pass(&mut self, until: u64) {
        // Time starts at 1; the log counts from 0.
        while let Some(at) = self.sim.next().filter(|at| *at < until + 1) {
            self.sim.advance(at);
            self.decide();
        }
        self.sim.advance(until + 1);
    }

    fn happen(&mut self, words: &[&str]) {
        let (verb, rest) = words.split_first().unwrap();
        let agent = |name: &str| AgentIx(name[1..].parse::<u32>().unwrap() - 1);
        match *verb {
            "cluster" => rest.iter().for_each(|word| match word.split_once('=').unwrap() {
                ("start", ms) => self.sim.habits.start_ms = ms.parse().unwrap(),
                ("base", ms) => self.sim.habits.base_ms = ms.parse().unwrap(),
                ("stop", ms) => self.sim.habits.stop_ms = ms.parse().unwrap(),
                ("survey", ms) => self.sim.habits.survey_ms = Some(ms.parse().unwrap()),
                ("rival", every) => self.sim.habits.rival = Some(every.parse().unwrap()),
                (_, ms) => self.sim.habits.offer_ms = ms.parse().unwrap(),
            }),
            "agents" => {
                let (room, attributes) = amounts(&rest[1..], Resources::ZERO);
                (0..rest[0].parse().unwrap()).for_each(|_| {
                    self.sim.add_agent(room, &attributes);
                });
            }
            "hidden" => {
                let (room, attributes) = amounts(rest, Resources::ZERO);
                self.sim.hide_agent(room, &attributes);
            }
            "executor" => {
                let (size, others) = amounts(rest, Resources::ZERO);
                let idle = others.iter().find(|(name, _)| *name == "idle").map_or(60_000, |(_, ms)| ms.parse().unwrap());
                (self.sim.world.executor_size, self.sim.world.executor_idle_ms) = (size, idle);
            }
            "executor-dies" => self.sim.executor_dies(agent(rest[0])),
            "executors-fail" => self.sim.failing.extend(rest.iter().map(|name| agent(name))),
            "executors-work" => self.sim.failing.clear(),
            "headroom" => self.sim.world.headroom = amounts(rest, Resources::ZERO).0,
            "budget" => self.sim.world.preemption_budget = Some(budget(rest[0])),
            "limits" => self.sim.world.limits = amounts(rest, Resources::UNLIMITED).0,
            "app" => {
                let mut app = app(rest[0]);
                rest[1..].iter().for_each(|word| set(&mut app, word));
                self.sim.set_app(app);
            }
            "set" => self.sim.change(rest[0], |app| rest[1..].iter().for_each(|word| set(app, word))),
            "failing" => self.sim.view(rest[0]).readings.iter_mut().for_each(|r| r.failure = Some("connection refused".into())),
            "breaks" => self.sim.broken.push((key(rest[0]), Version(rest[1].parse().unwrap()))),
            "delete" => self.sim.view(rest[0]).spec = None,
            "agent-unreachable" => self.sim.set_reachable(agent(rest[0]), false),
            "agent-back" => self.sim.set_reachable(agent(rest[0]), true),
            "agent-closes" => self.sim.close(agent(rest[0])),
            "agent-departs" => self.sim.depart(agent(rest[0]), true),
            "agent-stays" => self.sim.depart(agent(rest[0]), false),
            "agent-drained" => self.sim.drain(agent(rest[0])),
            "lacked-up-to" => self.sim.world.scale_out_priority = rest[0].parse().unwrap(),
            "agent-lost" => self.sim.lose(agent(rest[0])),
            push => {
                let (name, value) = push.split_once('=').unwrap();
                self.sim.push(name, value.parse().unwrap());
            }
        }
    }

    fn decide(&mut self) {
        let now = self.sim.now - 1;
        let plan = self.sim.decide();
        let deeds = deeds(&plan, &self.sim);
        if !deeds.is_empty() {
            let _ = writeln!(self.log, "{now:>6}  {deeds}");
        }
        // Ages and countdowns differ from one moment to the next, and are not worth a line each.
        let said =
            plan.verdicts.iter().map(|(key, verdict)| format!("{key}{}{}{}", verdict.wanted, verdict.granted, verdict.phase));
        let said = format!("{}{}", said.collect::<String>(), lacked(&plan));
        if said != self.said {
            self.said = said;
            let mut time = format!("{now:>6}");
            if !deeds.is_empty() {
                time.clear();
            }
            for (key, v) in &plan.verdicts {
                let counts = format!("{:>2} wanted {:>2} granted {:>2} running", v.wanted, v.granted, v.running);
                let _ = writeln!(self.log, "{time:>6}    {:<8} {counts}  {:<15} {}", key.name(), v.phase.to_string(), v.reason());
                time.clear();
            }
            self.log += &lacked(&plan);
        }
    }
}

/// What the pool lacks, in one line.
fn lacked(plan: &Plan) -> String {
    let shortfall = &plan.shortfall;
    if shortfall.is_none() {
        return String::new();
    }
    let apps: Vec<String> = shortfall.lacks.iter().map(|lack| format!("{} {}", lack.app.name(), lack.replicas)).collect();
    let agents = shortfall.agents().map_or_else(|| "other agents".to_owned(), |agents| format!("{agents} more agents"));
    format!("          the pool lacks {} for {}: {agents}\n", shortfall.room(), apps.join(", "))
}

/// What a plan does, in one line.
fn deeds(plan: &Plan, sim: &Sim) -> String {
    let name = |ix: AgentIx| sim.world.agents[ix.0 as usize].id.to_string();
    let mut deeds: Vec<String> = plan.starts.iter().map(|start| format!("+{}@{}", start.app.name(), name(start.agent))).collect();
    for stop in &plan.stops {
        let why = match &stop.why {
            StopReason::GivesWayTo(winner) => format!("for {}", winner.name()),
            why => format!("{why:?}"),
        };
        let task = sim.world.apps[&stop.app].tasks.iter().find(|task| task.id == stop.task).unwrap();
        deeds.push(format!("-{}@{} {why}", stop.app.name(), name(task.agent)));
    }
    deeds.extend(plan.prepare.iter().map(|it| format!("prepare {}@{}", it.app.name(), name(it.agent))));
    deeds.extend(plan.retire.iter().map(|it| format!("retire {}@{}", it.executor, name(it.agent))));
    let mut counted: Vec<(String, usize)> = Vec::new();
    for deed in deeds {
        match counted.iter_mut().find(|(other, _)| *other == deed) {
            Some((_, n)) => *n += 1,
            None => counted.push((deed, 1)),
        }
    }
    let text = |(deed, n): &(String, usize)| if *n == 1 { deed.clone() } else { format!("{n}× {deed}") };
    counted.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn amounts<'a>(words: &[&'a str], mut amounts: Resources) -> (Resources, Vec<(&'a str, &'a str)>) {
    let mut others = Vec::new();
    for word in words {
        match word.split_once('=').unwrap() {
            ("cpu", cpu) => amounts.cpu = thousandths(cpu),
            ("memory", mib) => amounts.memory = thousandths(mib),
            ("ports", n) => amounts.ports = n.parse().unwrap(),
            other => others.push(other),
        }
    }
    (amounts, others)
}

/// `4/1000`: four replicas a second.
fn budget(text: &str) -> PreemptionBudget {
    let (replicas, period) = text.split_once('/').unwrap();
    PreemptionBudget { replicas: replicas.parse().unwrap(), period_milliseconds: period.parse().unwrap() }
}

#[allow(clippy::cast_possible_truncation)]
fn thousandths(text: &str) -> i64 {
    (text.parse::<f64>().unwrap() * 1000.0) as i64
}

/// What stands in for a metric: `max:4000,3@9000` is the most of its last 4 s, and after it has been stale for 9 s, 3 replicas.
fn ladder(text: &str) -> Vec<Rung> {
    let one = |text: &str| {
        let (to, after_ms) = text.split_once('@').unwrap_or((text, "0"));
        let to = match to.strip_prefix("max:") {
            Some(window_ms) => StandIn::LastMax { window_ms: window_ms.parse().unwrap() },
            None if to == "hold" => StandIn::Hold,
            None => StandIn::Replicas(to.parse().unwrap()),
        };
        Rung { to, after_ms: after_ms.parse().unwrap() }
    };
    text.split(',').map(one).collect()
}

/// A stable window of so many milliseconds.
fn panic(stable_ms: i64) -> Panic {
    let stable_ms = u64::try_from(stable_ms).unwrap();
    Panic { window_ms: stable_ms / 10, stable_ms, threshold: 2.0, step_ms: stable_ms / 80 }
}

/// `2000/100`: no longer than two seconds, where each takes a tenth of one.
fn wait(text: &str) -> Wait {
    let (max, service) = text.split_once('/').unwrap();
    let service_ms = Some(service.parse().unwrap());
    Wait { max_ms: max.parse().unwrap(), service_ms, lag_ms: 0, counts_in_flight: false, arrivals: None }
}

/// One word of an app: `priority=1`.
fn set(app: &mut App, word: &str) {
    let (name, value) = word.split_once('=').unwrap();
    let number = || value.parse::<i64>().unwrap();
    let limits = || -> Vec<RateLimit> {
        // `4/1000` is four replicas per second, `50%/1000` half of them.
        let one = |text: &str| {
            let (amount, period) = text.split_once('/').unwrap();
            let kind = if amount.ends_with('%') { PolicyKind::Percent } else { PolicyKind::Pods };
            let value = amount.trim_end_matches('%').parse().unwrap();
            RateLimit { kind, value, period_ms: period.parse().unwrap() }
        };
        value.split(',').map(one).collect()
    };
    match name {
        "priority" => app.priority = i32::try_from(number()).unwrap(),
        "weight" => app.weight = number(),
        "replicas" => app.replicas = number(),
        "min" => app.min = number(),
        "max" => app.max = number(),
        "average" => app.demand = vec![metric("load", TargetValue::Average(value.parse().unwrap()), 60_000)],
        "value" => app.demand = vec![metric("load", TargetValue::Value(value.parse().unwrap()), 60_000)],
        "rate" => app.demand = vec![metric("load", TargetValue::Rate(value.parse().unwrap()), 60_000)],
        "utilization" => app.demand = vec![metric("load", TargetValue::Utilization(value.parse().unwrap()), 60_000)],
        "queue" => app.demand = vec![metric("load", TargetValue::Wait(wait(value)), 60_000)],
        "stale" => app.demand.iter_mut().for_each(|metric| metric.stale_after_ms = value.parse().unwrap()),
        "remainder" => app.remainder = Some(number()),
        "fallback" => app.demand.iter_mut().for_each(|metric| metric.ladder = ladder(value)),
        "up" => app.up.limits = limits(),
        "down" => app.down.limits = limits(),
        "up-window" => app.up.window_ms = value.parse().unwrap(),
        "down-window" => app.down.window_ms = value.parse().unwrap(),
        "panic" => app.panic = Some(panic(number())),
        "no-down" => app.down.select = SelectPolicy::Disabled,
        "cpu" => app.size.cpu = thousandths(value),
        "memory" => app.size.memory = thousandths(value),
        "version" => app.version = Version(value.parse().unwrap()),
        "surge" => app.max_surge = number(),
        "protect" => app.protection.protect_for_milliseconds = number(),
        "checkpointed" => app.protection.checkpointed = value == "true",
        "unavailable" => app.protection.max_unavailable = Some(Portion::Count(number())),
        "budget" => app.protection.preemption_budget = Some(budget(value)),
        "even" => app.protection.even_for_more_important = value == "true",
        "suspended" => app.suspended = value == "true",
        "observed" => app.observed_only = value == "true",
        "patience" => app.replace_unreachable_after_ms = value.parse().unwrap(),
        "pooled" => app.base = Some(pooled(value)),
        "image" => app.base = Some(image(value, false)),
        "prefetch" => app.base = Some(image(value, true)),
        "spread" => app.spread = Spread::Over(value.to_owned()),
        "where" => {
            let (attribute, value) = value.split_once(':').unwrap();
            let values = Some(vec![value.to_owned()]);
            app.requirements.push(Requirement { attribute: attribute.to_owned(), operator: Operator::In, values });
        }
        other => panic!("unknown word {other}"),
    }
}
