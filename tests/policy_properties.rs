//! What holds for every cluster and every course of events: random apps, demand, agents, failures and delays, and after them a quiet
//! time in which the pool has to reach its best state and stay there.
#![allow(clippy::unwrap_used)]

#[path = "policy_properties/bursts.rs"]
mod bursts;
#[path = "scenarios/sim.rs"]
mod sim;
#[path = "policy_properties/targets.rs"]
mod targets;

use microscaler::api::portion::Portion;
use microscaler::api::protection::{PreemptionBudget, Protection};
use microscaler::api::template::{Operator, Requirement};
use microscaler::api::validated::{App, BaseKind, Rung, Spread, StandIn, TargetValue, Version};
use microscaler::backend::End;
use microscaler::policy::resources::Resources;
use microscaler::policy::world::{AgentIx, Reading, TaskPhase};
use proptest::prelude::*;
use sim::bases::{has_failed, image, is_barred, pooled, usable};
use sim::{Habits, Sim, app, key, metric};

const STALE_AFTER_MS: u64 = 60_000;

#[derive(Clone, Debug)]
enum Event {
    Demand(usize, u8),
    Fail(usize),
    Template(usize),
    Suspend(usize, bool),
    Unreachable(u32),
    Back(u32),
    Lose(u32),
    Depart(u32, bool),
    Crash(usize),
    Delete(usize),
    ExecutorDies(u32),
    ExecutorsFail(u32),
    ExecutorsWork,
    Limits(u8),
    NewAgent(u8),
    Pass(u16),
}

#[derive(Clone, Debug)]
struct Cluster {
    agents: Vec<(u8, u8, bool)>,
    apps: Vec<App>,
    headroom: u8,
    executor_cpu: i64,
    budget: Option<PreemptionBudget>,
    seed: u64,
    survey_ms: Option<u64>,
    rival: Option<u32>,
    events: Vec<Event>,
}

fn a_budget() -> impl Strategy<Value = Option<PreemptionBudget>> {
    let some =
        (1..4_i32, 1..2000_i64).prop_map(|(replicas, period_milliseconds)| PreemptionBudget { replicas, period_milliseconds });
    prop_oneof![3 => Just(None), 1 => some.prop_map(Some)]
}

fn a_ladder() -> impl Strategy<Value = Vec<Rung>> {
    let at_once = |to| vec![Rung { to, after_ms: 0 }];
    prop_oneof![
        2 => Just(Vec::new()),
        2 => (0..5_i64).prop_map(move |replicas| at_once(StandIn::Replicas(replicas))),
        1 => (1..10_u64, 0..5_i64).prop_map(move |(seconds, replicas)| {
            let most = at_once(StandIn::LastMax { window_ms: 1000 * seconds });
            [most, vec![Rung { to: StandIn::Replicas(replicas), after_ms: 1000 }]].concat()
        }),
    ]
}

prop_compose! {
    fn a_protection()(
        protect_for_milliseconds in prop_oneof![Just(0_i64), Just(0), Just(2000)],
        checkpointed in any::<bool>(),
        max_unavailable in prop_oneof![
            2 => Just(None),
            1 => (0..3_i64).prop_map(|n| Some(Portion::Count(n))),
            1 => Just(Some(Portion::Percent(30))),
        ],
        preemption_budget in a_budget(),
    ) -> Protection {
        Protection { protect_for_milliseconds, checkpointed, max_unavailable, even_for_more_important: false, preemption_budget }
    }
}

prop_compose! {
    fn an_app()(
        priority in 1..4_i32,
        cpu in prop_oneof![Just(500_i64), Just(1000), Just(1000), Just(2000), Just(3000)],
        memory in prop_oneof![Just(64_i64), Just(64), Just(256)],
        min in 0..4_i64,
        more in prop_oneof![Just(20_i64), 0..10_i64],
        kind in 0..5,
        (weight, of_rest) in (1..4_i64, 1..4_i64),
        spread in any::<bool>(),
        only_x in 0..5,
        ladder in a_ladder(),
        surge in 1..3_i64,
        protection in a_protection(),
        base in prop_oneof![
            2 => Just(None),
            1 => (0..2).prop_map(|n| Some(pooled(&format!("group{n}")))),
            1 => (0..2, any::<bool>()).prop_map(|(n, ahead)| Some(image(&format!("image{n}{ahead}"), ahead))),
        ],
    ) -> App {
        let mut app = app("x");
        (app.priority, app.weight) = (priority, weight);
        app.size = Resources::new(cpu, memory);
        (app.min, app.max) = (min, min + more);
        if kind < 4 {
            app.demand = vec![metric("load", TargetValue::Average(1.0), STALE_AFTER_MS)];
        }
        if kind >= 3 {
            app.remainder = Some(of_rest);
        }
        if spread {
            app.spread = Spread::Over("rack".to_owned());
        }
        if only_x == 0 {
            let (attribute, values) = ("rack".to_owned(), Some(vec!["x".to_owned()]));
            app.requirements = vec![Requirement { attribute, operator: Operator::In, values }];
        }
        app.demand.iter_mut().for_each(|metric| metric.ladder.clone_from(&ladder));
        (app.max_surge, app.protection) = (surge, protection);
        app.base = base;
        app
    }
}

fn an_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..5_usize, 0..14_u8).prop_map(|(app, n)| Event::Demand(app, n)),
        6 => (1..3000_u16).prop_map(Event::Pass),
        1 => (0..5_usize).prop_map(Event::Fail),
        1 => (0..5_usize).prop_map(Event::Template),
        1 => (0..5_usize, any::<bool>()).prop_map(|(app, on)| Event::Suspend(app, on)),
        1 => (0..4_u32).prop_map(Event::Unreachable),
        1 => (0..4_u32).prop_map(Event::Back),
        1 => (0..4_u32).prop_map(Event::Lose),
        1 => (0..4_u32, any::<bool>()).prop_map(|(agent, departs)| Event::Depart(agent, departs)),
        1 => (0..5_usize).prop_map(Event::Crash),
        1 => (0..5_usize).prop_map(Event::Delete),
        1 => (0..4_u32).prop_map(Event::ExecutorDies),
        1 => (0..4_u32).prop_map(Event::ExecutorsFail),
        1 => Just(Event::ExecutorsWork),
        1 => (4..30_u8).prop_map(Event::Limits),
        1 => (1..4_u8).prop_map(Event::NewAgent),
    ]
}

prop_compose! {
    fn a_cluster()(
        agents in prop::collection::vec((1..8_u8, 1..8_u8, any::<bool>()), 1..5),
        apps in prop::collection::vec(an_app(), 1..6),
        headroom in prop_oneof![2 => Just(0_u8), 1 => 1..4_u8],
        executor_cpu in prop_oneof![Just(10_i64), Just(100), Just(700)],
        budget in a_budget(),
        seed in any::<u64>(),
        survey_ms in prop::option::of(1..500_u64),
        rival in prop::option::of(1..4_u32),
        events in prop::collection::vec(an_event(), 0..40),
    ) -> Cluster {
        let mut apps = apps;
        for (i, app) in apps.iter_mut().enumerate() {
            app.key = key(&format!("app{i}"));
        }
        Cluster { agents, apps, headroom, executor_cpu, budget, seed, survey_ms, rival, events }
    }
}

fn build(cluster: &Cluster) -> Sim {
    let mut sim = Sim::new(Habits {
        start_ms: 80,
        stop_ms: 120,
        offer_ms: 40,
        base_ms: 150,
        jitter: Some(cluster.seed),
        survey_ms: cluster.survey_ms,
        rival: cluster.rival,
    });
    for (cpu, memory, x) in &cluster.agents {
        let room = Resources::new(i64::from(*cpu) * 1000, i64::from(*memory) * 128);
        sim.add_agent(room, &[("rack", if *x { "x" } else { "y" })]);
    }
    (sim.world.executor_size, sim.world.executor_idle_ms) = (Resources::new(cluster.executor_cpu, 32), 2000);
    (sim.world.preemption_budget, sim.world.scale_out_priority) = (cluster.budget, 2);
    sim.world.headroom = Resources::new(i64::from(cluster.headroom) * 1000, 0);
    cluster.apps.iter().for_each(|app| sim.set_app(app.clone()));
    sim
}

fn happen(sim: &mut Sim, event: &Event, apps: usize, agents: usize) {
    let name = |n: usize| format!("app{}", n % apps);
    let spec = |sim: &Sim, n: usize| sim.world.apps.get(&key(&name(n))).and_then(|view| view.spec.clone());
    let agent = |n: u32| AgentIx(n % u32::try_from(agents).unwrap());
    match *event {
        Event::Demand(n, value) if spec(sim, n).is_some() => sim.push(&name(n), f64::from(value)),
        Event::Fail(n) if spec(sim, n).is_some() => {
            sim.view(&name(n)).readings.iter_mut().for_each(|reading| reading.failure = Some("refused".into()));
        }
        Event::Template(n) if spec(sim, n).is_some() => sim.change(&name(n), |app| app.version = Version(app.version.0 + 1)),
        Event::Suspend(n, on) if spec(sim, n).is_some() => sim.change(&name(n), |app| app.suspended = on),
        Event::Delete(n) if spec(sim, n).is_some() => sim.view(&name(n)).spec = None,
        Event::Crash(n) => {
            let found = sim.world.apps.get(&key(&name(n)));
            let at = found.and_then(|view| view.tasks.iter().position(|task| task.phase == TaskPhase::Running));
            if let Some(at) = at {
                sim.end(&key(&name(n)), at, End::Failed);
            }
        }
        Event::Unreachable(n) if sim.world.agents[agent(n).0 as usize].present => sim.set_reachable(agent(n), false),
        Event::Back(n) if !sim.world.agents[agent(n).0 as usize].present => sim.set_reachable(agent(n), true),
        Event::Lose(n) => sim.lose(agent(n)),
        Event::Depart(n, departs) => sim.depart(agent(n), departs),
        Event::ExecutorDies(n) => sim.executor_dies(agent(n)),
        Event::ExecutorsFail(n) => sim.failing.extend([agent(n)]),
        Event::ExecutorsWork => sim.failing.clear(),
        Event::Limits(n) => sim.world.limits.cpu = i64::from(n) * 1000,
        Event::NewAgent(cpu) => sim.hide_agent(Resources::new(i64::from(cpu) * 1000, 512), &[("rack", "y")]),
        Event::Pass(ms) => {
            let end = sim.now + u64::from(ms);
            while sim.next().is_some_and(|at| at < end) {
                sim.advance(sim.next().unwrap());
                sim.decide();
            }
            sim.advance(end);
        }
        _ => {}
    }
    sim.decide();
}

/// Keeps every value fresh, as a living source does.
fn refresh(sim: &mut Sim) {
    let now = sim.now;
    for reading in sim.world.apps.values_mut().flat_map(|view| &mut view.readings) {
        let value = reading.value.map_or(0.0, |(value, _)| value);
        *reading = Reading { value: Some((value, now)), ..Reading::default() };
    }
}

/// At rest, no app lacks a replica for which less important ones above their floors hold enough room on one agent.
fn nobody_starves(sim: &Sim) {
    let views: Vec<_> = sim.world.apps.values().filter_map(|view| Some((view, view.spec.clone()?))).collect();
    for (view, app) in &views {
        let wanted = sim.last.verdicts[&app.key].wanted;
        // What lives on spare room has no successors.
        let stays = if app.remainder.is_some() { sim::live(view) } else { sim::live(view) - sim.displaced(view) };
        if app.suspended || stays >= wanted || sim.world.limits != Resources::UNLIMITED {
            continue;
        }
        for (ix, agent) in sim.world.agents.iter().enumerate().filter(|(_, agent)| agent.is_open()) {
            let executor = app.base.as_ref().filter(|base| base.kind == BaseKind::Executor);
            if executor.is_some_and(|base| is_barred(agent, &base.key, sim.now) || has_failed(agent, &base.key)) {
                continue;
            }
            let allowed = app.requirements.is_empty() || agent.attributes.get("rack").is_some_and(|rack| rack == "x");
            let mut room = agent.held + agent.expected;
            // What is still wanted there ranks like the most important app that wants it.
            let missing = sim.missing(agent);
            let aside = missing.iter().filter(|(_, priority)| *priority <= app.priority);
            aside.for_each(|(base, _)| room -= sim.base_size(base));
            for (other, spec) in &views {
                let floor = spec.min;
                let above = usize::try_from((sim::live(other) - floor).max(0)).unwrap();
                let lower =
                    (spec.priority > app.priority || (spec.remainder.is_some() && spec.demand.is_empty())) && !spec.suspended;
                let here = other.tasks.iter().filter(|task| task.agent.0 as usize == ix && lower);
                room = here.take(above).fold(room, |room, task| room + task.resources);
            }
            assert!(!allowed || !app.size.fits(room), "{} has {stays} of {wanted}, agent {ix} could give {room}", app.key);
        }
    }
}

/// At rest, every base is where it is wanted, unless what is there and as important leaves no room, or there is enough already. Nothing
/// ends for images, nor for executors that failed.
fn bases_are_there(sim: &Sim) {
    let views: Vec<_> = sim.world.apps.values().filter_map(|view| Some((view, view.spec.clone()?))).collect();
    for (ix, agent) in sim.world.agents.iter().enumerate().filter(|(_, agent)| agent.is_open()) {
        for (base, priority) in sim.missing(agent) {
            let mut room = agent.held + agent.expected;
            let all: Resources = sim.missing(agent).iter().map(|(base, _)| sim.base_size(base)).sum();
            let Resources { cpu, memory, .. } = sim.capacity[ix];
            let part = Resources { cpu: cpu / 4, memory: memory / 4, ..Resources::ZERO };
            if !(sim.used_by_bases(ix) + all).fits(part) {
                continue;
            }
            let takes = base.kind == BaseKind::Executor && !has_failed(agent, &base.key);
            for (view, spec) in views.iter().filter(|_| takes) {
                let above = usize::try_from((sim::live(view) - spec.min).max(0)).unwrap();
                let lower = spec.priority > priority || (spec.remainder.is_some() && spec.demand.is_empty());
                let here = view.tasks.iter().filter(|task| task.agent.0 as usize == ix && lower);
                room = here.take(above).fold(room, |room, task| room + task.resources);
            }
            let limited = sim.world.limits != Resources::UNLIMITED;
            assert!(limited || !sim.base_size(&base).fits(room), "{base:?} fits the {room} of agent {ix}: {:#?}", sim.last);
        }
        let wanted = |key: &str| sim.wanted_by(agent, key).is_some();
        for fitted in agent.bases.iter().filter(|fitted| fitted.executor.is_some()) {
            let key = fitted.key.as_deref().unwrap();
            assert!(wanted(key) || sim.has_tasks(AgentIx(u32::try_from(ix).unwrap()), fitted), "{fitted:?} is wanted");
        }
        let keys: Vec<_> = agent.bases.iter().filter(|fitted| usable(agent, fitted.key.as_deref().unwrap()).is_some()).collect();
        assert!(keys.iter().all(|one| keys.iter().filter(|other| one.key == other.key).count() == 1), "one of each: {keys:?}");
    }
}

fn run(cluster: &Cluster) {
    let mut sim = build(cluster);
    sim.decide();
    for event in &cluster.events {
        happen(&mut sim, event, cluster.apps.len(), cluster.agents.len());
        for lack in &sim.last.shortfall.lacks {
            let (verdict, view) = (&sim.last.verdicts[&lack.app], &sim.world.apps[&lack.app]);
            let (app, missing) = (view.spec.as_ref().unwrap(), verdict.wanted - verdict.granted);
            // Those on agents that are about to go are lacked unless successors are on their way.
            assert!((missing..=missing + sim.displaced(view)).contains(&lack.replicas), "{lack:?} {verdict:?}");
            assert!(lack.replicas > 0 && app.priority <= 2 && !app.suspended, "{lack:?}");
        }
        let used = |ix: usize| -> Resources {
            let tasks = sim.world.apps.values().flat_map(|view| &view.tasks);
            tasks
                .filter(|task| task.agent.0 as usize == ix && task.phase != TaskPhase::Unreachable)
                .map(|task| task.resources)
                .sum()
        };
        for (ix, capacity) in sim.capacity.iter().enumerate() {
            let all = used(ix) + sim.used_by_bases(ix);
            assert!(!sim.world.agents[ix].present || all.fits(*capacity), "agent {ix} is within its capacity: {all}");
        }
    }
    sim.habits.rival = None;
    sim.failing.clear();
    // Quiet: values stay fresh and the same, crash loops get the time to end.
    for app in &cluster.apps {
        if let Some(view) = sim.world.apps.get_mut(&app.key)
            && let Some(spec) = &view.spec
        {
            let steady = App { suspended: false, ..(**spec).clone() };
            view.spec = Some(std::sync::Arc::new(steady));
        }
    }
    let mut rounds = 0;
    let (mut since_change, mut changed_at) = (0, sim.now + 61_000);
    // Agents on which tasks were dropped with their executor are left alone for a minute.
    sim.advance(sim.now + 61_000);
    while since_change < 50 || sim.now < changed_at + 10_000 {
        rounds += 1;
        assert!(rounds < 2000, "it comes to rest: {:#?}", sim.last);
        refresh(&mut sim);
        let plan = sim.decide();
        let idle = plan.is_idle() && plan.prepare.is_empty() && plan.retire.is_empty();
        (since_change, changed_at) = if idle { (since_change + 1, changed_at) } else { (0, sim.now) };
        let next = sim.next().unwrap_or(sim.now + 1000);
        sim.advance(next.clamp(sim.now + 1, sim.now + 5000));
    }
    assert!(
        sim.last.waits.is_empty(),
        "at rest nothing waits: {:?} {:?} limits {}",
        sim.last,
        sim.world.agents,
        sim.world.limits
    );
    bases_are_there(&sim);
    nobody_starves(&sim);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_course_of_events_keeps_the_rules_and_comes_to_rest(cluster in a_cluster()) {
        run(&cluster);
    }

    #[test]
    fn stale_demand_never_scales_down(
        first in 1..30_u8,
        later in prop::collection::vec((0..30_u8, any::<bool>(), 1..40_000_u64), 1..20),
    ) {
        let mut sim = Sim::new(Habits { start_ms: 1, stop_ms: 1, offer_ms: 1, ..Habits::default() });
        sim.add_agent(Resources::new(100_000, 100_000), &[]);
        let mut spec = app("a");
        spec.demand = vec![metric("one", TargetValue::Average(1.0), 20_000), metric("two", TargetValue::Average(1.0), 20_000)];
        sim.set_app(spec);
        sim.push("a", f64::from(first));
        sim.decide();
        for (value, fails, ms) in later {
            let now = sim.now;
            let reading = &mut sim.view("a").readings[0];
            *reading = Reading { value: Some((f64::from(value), now)), ..Reading::default() };
            // The other one fails or is left to go stale.
            sim.view("a").readings[1].failure = fails.then(|| "timed out".into());
            let other = sim.view("a").readings[1].clone();
            let fresh = other.failure.is_none() && other.value.is_some_and(|(_, at)| now - at <= 20_000);
            let before = sim.last.verdicts[&key("a")].wanted;
            let after = sim.decide().verdicts[&key("a")].wanted;
            prop_assert!(fresh || after >= before, "{before} to {after}");
            let to = sim.now + ms;
            sim.advance(to);
        }
    }

    #[test]
    fn equals_share_by_weight(apps in prop::collection::vec((1..9_i64, 0..60_i64), 1..6), agents in 1..9_i64) {
        let mut sim = Sim::new(Habits::default());
        for _ in 0..agents {
            sim.add_agent(Resources::new(12_000, 100_000), &[]);
        }
        for (n, (weight, replicas)) in apps.iter().enumerate() {
            let (weight, replicas) = (*weight, *replicas);
            sim.set_app(App { weight, replicas, ..app(&format!("app{n}")) });
        }
        sim.decide();
        let granted = |n: usize| sim.last.verdicts[&key(&format!("app{n}"))].granted;
        // Whoever could do with more has no less for its weight than any other had before its last replica.
        for (n, (weight, _)) in apps.iter().enumerate().filter(|(n, (_, replicas))| granted(*n) < *replicas) {
            for (other, (its_weight, _)) in apps.iter().enumerate().filter(|(other, _)| granted(*other) > 0) {
                let (had, has) = ((granted(other) - 1) * weight, granted(n) * its_weight);
                prop_assert!(had <= has, "app{other} had {had} and app{n} has {has} of {apps:?}");
            }
        }
    }
}
