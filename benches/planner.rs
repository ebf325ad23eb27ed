//! The planner at full size: 1,000 agents, 1,000 apps, 50,000 tasks; and at rest, with room for one more: 500 agents, 1,000 apps, 5,000
//! tasks, as `scale` has them.
//!
//! Aims: one changed demand re-planned in under 5 ms, everything planned from nothing in under 200 ms.
#![allow(unsafe_code, clippy::unwrap_used, clippy::cast_precision_loss)]

#[path = "../tests/scenarios/sim.rs"]
mod sim;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, criterion_group, criterion_main};
use microscaler::api::validated::{App, Base, TargetValue};
use microscaler::policy::resources::Resources;
use microscaler::policy::world::{BasePhase, Fitted, Reading, Task, TaskPhase, World};
use microscaler::policy::{Memory, decide};
use sim::{Habits, Sim, app, key, metric};

#[derive(Clone, Copy)]
struct Size {
    agents: usize,
    apps: usize,
    tasks_per_app: i64,
    /// A tenth of the apps live on spare room.
    fills: bool,
}

const FULL: Size = Size { agents: 1000, apps: 1000, tasks_per_app: 50, fills: true };
const ROOMY: Size = Size { agents: 500, apps: 1000, tasks_per_app: 5, fills: false };

/// Counts what is allocated and not yet freed.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A pool of agents with 16 cores; of the full one most are used when every app has what it wants.
fn nothing_runs(size: Size) -> World {
    let mut sim = Sim::new(Habits { start_ms: 0, stop_ms: 0, offer_ms: 0, ..Habits::default() });
    for rack in 0..size.agents {
        sim.add_agent(Resources::new(16_000, 65_536), &[("rack", ["a", "b", "c", "d"][rack % 4])]);
    }
    for n in 0..size.apps {
        let mut spec = app(&format!("app-{n:04}"));
        spec.priority = i32::try_from(1 + n % 10).unwrap();
        spec.min = 2;
        spec.size = Resources::new([200, 250, 300, 500][n % 4], [64, 128, 256][n % 3]);
        spec.demand = vec![metric("load", TargetValue::Average(10.0), u64::MAX)];
        if size.fills && n % 10 == 9 {
            spec.remainder = Some(1);
            spec.max = 60;
        }
        if n % 5 == 0 {
            spec.spread = microscaler::api::validated::Spread::Over("rack".to_owned());
        }
        let name = spec.key.name().to_owned();
        sim.set_app(spec);
        sim.push(&name, (size.tasks_per_app * 10) as f64);
    }
    sim.world
}

/// Carries out the starts of a plan at once.
fn all_runs(size: Size) -> (World, Memory) {
    let mut world = nothing_runs(size);
    let (plan, memory) = decide(&world, Memory::default(), 1000);
    for (serial, start) in plan.starts.iter().enumerate() {
        let view = world.apps.get_mut(&start.app).unwrap();
        let spec = view.spec.clone().unwrap();
        world.agents[start.agent.0 as usize].held -= spec.size;
        view.tasks.push(Task {
            id: format!("{}.{:08x}.k3x-{serial}", start.app.name(), spec.version.0).into(),
            agent: start.agent,
            version: Some(spec.version),
            phase: TaskPhase::Running,
            ready: true,
            since: 1000,
            born: 1000,
            resources: spec.size,
            executor: None,
        });
    }
    (world, memory)
}

/// Of each app, an executor of one of four groups is on every agent; or where `ready` is unset, it is still to be put there.
fn with_executors(world: &World, ready: bool) -> World {
    let group = |n: usize| sim::bases::pooled(&format!("group-{}", n % 4));
    let mut world = World { executor_size: Resources::new(10, 32), executor_idle_ms: 60_000, ..world.clone() };
    for (n, view) in world.apps.values_mut().enumerate() {
        view.spec = view.spec.as_deref().map(|spec| Arc::new(App { base: Some(group(n)), ..spec.clone() }));
    }
    for (n, agent) in world.agents.iter_mut().enumerate().filter(|_| ready) {
        let fitted = |group: Base| Fitted {
            key: Some(group.key.to_string().into()),
            executor: Some(format!("{}-{n}", group.key).into()),
            phase: BasePhase::Ready,
            since: 1000,
            limits: None,
        };
        agent.bases = (0..4).map(group).map(fitted).collect();
    }
    world
}

fn push(world: &mut World, app: &str, value: f64) {
    world.apps.get_mut(&key(app)).unwrap().readings[0] = Reading { value: Some((value, 2000)), ..Reading::default() };
}

/// The least time that this thread was on a processor for one run, of twenty: what is left when others use the machine, too.
fn processor_ms<I, O>(setup: impl Fn() -> I, run: impl Fn(I) -> O) -> f64 {
    let nanoseconds = || {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        text.split_whitespace().next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(f64::NAN)
    };
    let once = || {
        let input = setup();
        let before = nanoseconds();
        let output = run(input);
        let after = nanoseconds();
        drop(output);
        (after - before) / 1e6
    };
    (0..20).map(|_| once()).fold(f64::INFINITY, f64::min)
}

/// What most decisions are: one app wants one more, there is room for it, and its executor is there.
fn one_more_at_rest(group: &mut BenchmarkGroup<WallTime>) {
    let (world, _) = all_runs(ROOMY);
    let mut world = with_executors(&world, true);
    let (_, memory) = decide(&world, Memory::default(), 1999);
    push(&mut world, "app-0000", 60.0);
    let (plan, _) = decide(&world, memory.clone(), 2000);
    println!("one_more_at_rest: {} starts, {} waits", plan.starts.len(), plan.waits.len());
    group.bench_function("one_more_at_rest", |b| {
        b.iter_batched(|| memory.clone(), |memory| decide(&world, memory, 2000), BatchSize::LargeInput);
    });
}

fn planner(c: &mut Criterion) {
    let before = LIVE.load(Ordering::Relaxed);
    let (world, memory) = all_runs(FULL);
    let both = LIVE.load(Ordering::Relaxed) - before;
    let copy = memory.clone();
    let remembered = LIVE.load(Ordering::Relaxed) - before - both;
    drop(copy);
    let tasks: usize = world.apps.values().map(|view| view.tasks.len()).sum();
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    println!("{tasks} tasks: world and specs {:.1} MiB, memory {:.2} MiB", mib(both - remembered), mib(remembered));

    let mut group = c.benchmark_group("planner");
    group.sample_size(20);
    let cases = [("one_demand_changed", 1, 600.0), ("one_rush_of_500", 1, 5500.0), ("hundred_rushes", 100, 700.0)];
    for (name, apps, value) in cases {
        let mut world = world.clone();
        (0..apps).for_each(|n| push(&mut world, &format!("app-{:04}", n * 10), value));
        let (plan, _) = decide(&world, memory.clone(), 2000);
        println!("{name}: {} starts, {} waits, {} stops", plan.starts.len(), plan.waits.len(), plan.stops.len());
        println!("{name}: {:.2} ms of processor time", processor_ms(|| memory.clone(), |memory| decide(&world, memory, 2000)));
        group.bench_function(name, |b| {
            b.iter_batched(|| memory.clone(), |memory| decide(&world, memory, 2000), BatchSize::LargeInput);
        });
    }
    for (name, ready) in [("one_demand_changed_with_executors", true), ("executors_put_everywhere", false)] {
        let mut world = with_executors(&world, ready);
        push(&mut world, "app-0000", 600.0);
        let (plan, _) = decide(&world, memory.clone(), 2000);
        println!("{name}: {} prepared, {} starts, {} stops", plan.prepare.len(), plan.starts.len(), plan.stops.len());
        println!("{name}: {:.2} ms of processor time", processor_ms(|| memory.clone(), |memory| decide(&world, memory, 2000)));
    }
    one_more_at_rest(&mut group);
    let world = nothing_runs(FULL);
    println!(
        "all_from_nothing: {:.2} ms of processor time",
        processor_ms(Memory::default, |memory| decide(&world, memory, 1000))
    );
    group.bench_function("all_from_nothing", |b| {
        b.iter_batched(Memory::default, |memory| decide(&world, memory, 1000), BatchSize::LargeInput);
    });
    group.finish();
}

criterion_group!(benches, planner);
criterion_main!(benches);
