//! Drives the Mesos backend as the engine does, with a test in place of the policy.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::disallowed_methods, reason = "real servers take real time")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use microscaler::api::validated::{App, Pool};
use microscaler::api::{MicroscaledApp, MicroscalingPool};
use microscaler::backend::mesos::{Mesos, Setting, Store};
use microscaler::backend::{Backend, Ending, Kill, Launch, Orders, preparation_id, task_id};
use microscaler::engine::clock;
use microscaler::engine::leadership::Leadership;
use microscaler::policy::plan::Retire;
use microscaler::policy::resources::Resources;
use microscaler::policy::world::{AgentIx, AppView, BasePhase, Fitted, Task, TaskPhase, World};
use microscaler::store::secrets::Secrets;

const LIMIT: Duration = Duration::from_mins(1);

pub struct Rig {
    pub mesos: Mesos,
    pub world: World,
    pub endings: Vec<Ending>,
    pub notes: Vec<String>,
    incarnation: String,
    serial: u64,
}

/// A pool in the namespace `default`.
pub fn pool(masters: &[String], more: &str) -> Arc<Pool> {
    let text = format!(
        "{{apiVersion: microscaling.dev/v1alpha1, kind: MicroscalingPool, metadata: {{name: main}}, \
          spec: {{mesos: {{masters: {masters:?}, role: web{more}}}}}}}"
    );
    Arc::new(Pool::read(&serde_saphyr::from_str::<MicroscalingPool>(&text).unwrap()).unwrap())
}

/// An app of that pool, its template in YAML.
pub fn app(name: &str, template: &str) -> Arc<App> {
    let text = format!(
        "{{apiVersion: microscaling.dev/v1alpha1, kind: MicroscaledApp, metadata: {{name: {name}}}, \
          spec: {{pool: main, template: {template}}}}}"
    );
    Arc::new(App::read(&serde_saphyr::from_str::<MicroscaledApp>(&text).unwrap()).unwrap())
}

/// A core and 64 MiB, for ever.
pub fn sleeper(name: &str) -> Arc<App> {
    app(name, "{shell: exec sleep 1000, resources: {cpu: 1, memory: 64Mi}, gracePeriodMilliseconds: 0}")
}

/// An order to end a task at once.
pub fn kill_of(app: &Arc<App>, id: &Arc<str>) -> Kill {
    Kill { app: app.key.clone(), id: id.clone(), grace_ms: Some(0) }
}

impl Rig {
    pub fn start(pool: Arc<Pool>, state: &Path) -> Self {
        Self::start_as(pool, state, false)
    }

    /// `fresh`: as a new framework, even if one of the same name has tasks.
    #[allow(clippy::needless_pass_by_value, reason = "so that a test can make it in place")]
    pub fn start_as(pool: Arc<Pool>, state: &Path, fresh: bool) -> Self {
        let store = Store::file(state, &pool.key);
        let setting = Setting { store, secrets: Arc::new(Secrets::in_files()), leadership: Leadership::alone(), fresh };
        let mesos = Mesos::start(&pool, setting).unwrap();
        let (world, endings, notes) = (World::default(), Vec::new(), Vec::new());
        Self { mesos, world, endings, notes, incarnation: clock::incarnation(), serial: 0 }
    }

    /// Takes all that has come. Returns how long there is nothing to do.
    pub fn turn(&mut self) -> Duration {
        while let Some(event) = self.mesos.try_next() {
            let applied = self.mesos.apply(event, &mut self.world, clock::now());
            self.endings.extend(applied.endings);
            self.notes.extend(applied.notes.into_iter().map(|note| note.message));
        }
        let (applied, wake) = self.mesos.tick(&mut self.world, clock::now());
        self.endings.extend(applied.endings);
        self.notes.extend(applied.notes.into_iter().map(|note| note.message));
        wake.map_or(LIMIT, |wake| Duration::from_millis(wake.saturating_sub(clock::now())))
    }

    /// Goes on until the condition holds. Returns how long that took.
    pub async fn until(&mut self, what: &str, mut condition: impl FnMut(&Self) -> bool) -> Duration {
        let started = Instant::now();
        loop {
            let pause = self.turn();
            if condition(self) {
                return started.elapsed();
            }
            assert!(started.elapsed() < LIMIT, "not {what}: {:?}\n{:#?}\n{:?}", self.mesos.standing(), self.world, self.endings);
            if let Ok(event) = tokio::time::timeout(pause.min(Duration::from_millis(500)), self.mesos.next()).await {
                let applied = self.mesos.apply(event.expect("the session goes on"), &mut self.world, clock::now());
                self.endings.extend(applied.endings);
                self.notes.extend(applied.notes.into_iter().map(|note| note.message));
            }
        }
    }

    /// Goes on for a while.
    pub async fn pass(&mut self, time: Duration) {
        let started = Instant::now();
        self.until("over", |_| started.elapsed() >= time).await;
    }

    pub async fn ready(&mut self) {
        self.until("ready", |rig| rig.mesos.standing().ready).await;
    }

    pub async fn held(&mut self, room: Resources) {
        self.until("offered", |rig| rig.world.agents.iter().any(|agent| room.fits(agent.held))).await;
    }

    pub fn order(&mut self, orders: Orders) {
        let orders = Orders { caused_at: Some(clock::instant()), ..orders };
        self.mesos.dispatch(orders, &mut self.world, clock::now());
    }

    /// An order to launch a replica on the agent.
    pub fn launch_of(&mut self, app: &Arc<App>, agent: u32) -> Launch {
        self.serial += 1;
        self.world.apps.entry(app.key.clone()).or_default().spec = Some(app.clone());
        let id = task_id(&app.key, app.version, &self.incarnation, self.serial);
        Launch { id, app: app.clone(), agent: AgentIx(agent) }
    }

    /// Launches replicas on the agent.
    pub fn launch(&mut self, app: &Arc<App>, agent: u32, count: usize) -> Vec<Arc<str>> {
        let launches: Vec<_> = (0..count).map(|_| self.launch_of(app, agent)).collect();
        let ids = launches.iter().map(|launch| launch.id.clone()).collect();
        self.order(Orders { launches, ..Orders::default() });
        ids
    }

    /// Puts what the app builds on on the agent.
    pub fn prepare(&mut self, app: &Arc<App>, agent: u32) {
        self.serial += 1;
        self.world.apps.entry(app.key.clone()).or_default().spec = Some(app.clone());
        let id = preparation_id(&app.base.as_ref().unwrap().key, &self.incarnation, self.serial);
        let prepare = vec![Launch { id, app: app.clone(), agent: AgentIx(agent) }];
        self.order(Orders { prepare, ..Orders::default() });
    }

    pub fn retire(&mut self, executor: &Arc<str>, agent: u32) {
        let retire = vec![Retire { executor: executor.clone(), agent: AgentIx(agent) }];
        self.order(Orders { retire, ..Orders::default() });
    }

    pub fn bases(&self, agent: usize) -> &[Fitted] {
        self.world.agents.get(agent).map_or(&[], |agent| &agent.bases)
    }

    /// The only executor on the agent, if it is ready.
    pub fn executor(&self, agent: usize) -> Option<Arc<str>> {
        match self.bases(agent) {
            [Fitted { phase: BasePhase::Ready, executor, .. }] => executor.clone(),
            _ => None,
        }
    }

    pub fn kill(&mut self, app: &Arc<App>, ids: &[Arc<str>]) {
        let kills = ids.iter().map(|id| kill_of(app, id)).collect();
        self.order(Orders { kills, ..Orders::default() });
    }

    pub fn tasks(&self, app: &Arc<App>) -> &[Task] {
        self.world.apps.get(&app.key).map_or(&[], |view: &AppView| &view.tasks)
    }

    pub fn count(&self, app: &Arc<App>, phase: TaskPhase) -> usize {
        self.tasks(app).iter().filter(|task| task.phase == phase).count()
    }

    pub async fn running(&mut self, app: &Arc<App>, count: usize) -> Duration {
        self.until("running", |rig| rig.count(app, TaskPhase::Running) == count && rig.tasks(app).len() == count).await
    }

    pub async fn gone(&mut self, app: &Arc<App>) -> Duration {
        self.until("gone", |rig| rig.tasks(app).is_empty()).await
    }
}
