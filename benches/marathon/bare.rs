//! The floor: a client that knows beforehand how many instances to ask for.

use std::time::{Duration, Instant};

use microscaler_testbed::wire::{Connection, Request};
use serde_json::{Value, json};

use crate::setting::Setting;
use crate::support::contest::{Case, Contender};
use crate::support::marathon::Bed;
use crate::support::onlooker::Onlooker;
use crate::support::{PATIENCE, wait_for};
use crate::{AGENTS, SLOTS};

pub struct Bare<'a> {
    bed: &'a Bed,
    setting: &'a Setting,
    onlooker: Onlooker,
}

impl<'a> Bare<'a> {
    pub fn start(bed: &'a Bed, setting: &'a Setting) -> Self {
        Self { bed, setting, onlooker: Onlooker::start(&bed.cluster) }
    }

    fn connection(&self) -> Connection {
        let address = self.bed.marathon.url().trim_start_matches("http://").parse().unwrap();
        Connection::open(address, PATIENCE).unwrap()
    }

    fn patch(connection: &mut Connection, numbers: &Value) {
        let body = numbers.to_string();
        let request = Request {
            method: "PATCH",
            path: "/v2/apps?force=true",
            headers: "Content-Type: application/json\r\n",
            body: body.as_bytes(),
        };
        let answer = connection.call(request).unwrap();
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    }

    /// Until Marathon has nothing more to do.
    fn settle(&self) {
        wait_for("deployments to end", || (self.bed.marathon.get("/v2/deployments").ok()? == json!([])).then_some(()));
    }
}

impl Contender for Bare<'_> {
    /// What fills the pool is there already: both scale the same apps.
    fn prepare(&mut self, _: Case) {}

    fn round(&mut self, case: Case) -> (Duration, Duration) {
        let n = case.tasks();
        let swaps = matches!(case, Case::Swap(_));
        let all = AGENTS * SLOTS;
        let numbers = |web: usize| {
            let web_alone = json!([{"id": "/web", "instances": web}]);
            let both = json!([{"id": "/rest", "instances": all - web}, {"id": "/web", "instances": web}]);
            if swaps { both } else { web_alone }
        };
        self.setting.pause();
        let mut connection = self.connection();
        self.onlooker.forget();
        let start = Instant::now();
        Self::patch(&mut connection, &numbers(n));
        let up = self.onlooker.wait_running("web", n) - start;
        self.settle();
        let start = Instant::now();
        Self::patch(&mut connection, &numbers(0));
        let down = self.onlooker.wait("web", "TASK_KILLED", n) - start;
        if swaps {
            self.onlooker.wait_running("rest", n);
        }
        self.settle();
        (up, down)
    }
}
