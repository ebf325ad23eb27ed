//! The launch queue: what each app waits for, how long a failing one waits, and what became of the offers that it was shown.

use super::definition::Definition;
use super::time::{Millis, text};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// In the order in which an offer is judged; none of the later ones is looked at after the first that fails.
pub const REASONS: [&str; 10] = [
    "UnfulfilledRole",
    "UnfulfilledConstraint",
    "NoCorrespondingReservationFound",
    "AgentMaintenance",
    "InsufficientCpus",
    "InsufficientMemory",
    "InsufficientDisk",
    "InsufficientGpus",
    "InsufficientPorts",
    "DeclinedScarceResources",
];
/// A delay that has been over for so long is forgotten.
const FORGET_DELAY: Millis = 60_000;

/// An offer that an app did not want.
#[derive(Clone, Debug)]
struct Unused {
    offer: Value,
    reason: usize,
    at: Millis,
}

/// What the queue knows of one app.
#[derive(Clone, Debug, Default)]
pub struct Launches {
    since: Millis,
    delay: Millis,
    delayed_until: Millis,
    processed: u64,
    unused: u64,
    last_used: Option<Millis>,
    last_unused: Option<Millis>,
    /// How often an offer failed for each of the [`REASONS`]; the last counts those that were taken.
    outcomes: [u64; REASONS.len() + 1],
    /// The last offer of each agent, if it was not wanted.
    last_offers: BTreeMap<String, Unused>,
}

impl Launches {
    /// Something waits from now on, if nothing did before.
    pub fn begin(&mut self, now: Millis) {
        if self.since == 0 {
            self.since = now;
        }
    }

    /// Nothing waits any longer.
    pub fn end(&mut self) {
        *self = Self { delay: self.delay, delayed_until: self.delayed_until, ..Self::default() };
    }

    /// After a failure, the next start waits: each time longer.
    pub fn delay_next(&mut self, definition: &Definition, now: Millis) {
        let is_first = self.delay == 0 || now > self.delayed_until + FORGET_DELAY;
        let seconds = |name: &str| definition.number(name) * 1000.0;
        #[expect(clippy::cast_precision_loss, reason = "an hour at most")]
        let next = if is_first { seconds("backoffSeconds") } else { self.delay as f64 * definition.number("backoffFactor") };
        #[expect(clippy::cast_possible_truncation, reason = "checked by the schema")]
        let next = next.min(seconds("maxLaunchDelaySeconds")) as Millis;
        self.delay = next;
        self.delayed_until = now + next;
    }

    pub fn reset_delay(&mut self) {
        self.delay = 0;
        self.delayed_until = 0;
    }

    #[must_use]
    pub fn is_delayed(&self, now: Millis) -> bool {
        now < self.delayed_until
    }

    #[must_use]
    pub fn next_start(&self, now: Millis) -> Option<Millis> {
        self.is_delayed(now).then_some(self.delayed_until)
    }

    #[must_use]
    pub fn since(&self) -> Millis {
        self.since
    }

    /// What became of an offer: the index of the reason why it was not wanted, if so.
    pub fn note_offer(&mut self, offer: &Value, reason: Option<usize>, now: Millis) {
        self.processed += 1;
        self.outcomes[reason.unwrap_or(REASONS.len())] += 1;
        let agent = offer["agent_id"]["value"].as_str().unwrap_or_default().to_owned();
        if let Some(reason) = reason {
            self.unused += 1;
            self.last_unused = Some(now);
            self.last_offers.insert(agent, Unused { offer: offer.clone(), reason, at: now });
        } else {
            self.last_used = Some(now);
            self.last_offers.remove(&agent);
        }
    }

    #[must_use]
    pub fn view(&self, count: usize, app: &Value, with_offers: bool, now: Millis) -> Value {
        let left = (self.delayed_until - now).max(0);
        let mut last = [0_u64; REASONS.len() + 1];
        self.last_offers.values().for_each(|unused| last[unused.reason] += 1);
        let mut summary = json!({ "processedOffersCount": self.processed, "unusedOffersCount": self.unused });
        if let Some(at) = self.last_unused {
            summary["lastUnusedOfferAt"] = json!(text(at));
        }
        if let Some(at) = self.last_used {
            summary["lastUsedOfferAt"] = json!(text(at));
        }
        summary["rejectSummaryLastOffers"] = funnel(&last);
        summary["rejectSummaryLaunchAttempt"] = funnel(&self.outcomes);
        let mut view = json!({
            "count": count, "role": "*", "delay": { "timeLeftSeconds": (left + 999) / 1000, "overdue": left == 0 },
            "since": text(self.since), "processedOffersSummary": summary,
        });
        if with_offers {
            view["lastUnusedOffers"] = self.last_offers.values().map(Unused::view).collect();
        }
        view["app"] = app.clone();
        view
    }
}

/// For each reason, how many offers got so far, and how many failed there.
fn funnel(outcomes: &[u64; REASONS.len() + 1]) -> Value {
    let summary = REASONS.iter().enumerate().map(|(index, reason)| {
        let processed: u64 = outcomes[index..].iter().sum();
        json!({ "reason": reason, "declined": outcomes[index], "processed": processed })
    });
    summary.collect()
}

impl Unused {
    fn view(&self) -> Value {
        let resources = self.offer["resources"].as_array().into_iter().flatten().map(|resource| {
            let mut view = json!({ "name": resource["name"], "role": "*" });
            if resource["ranges"].is_object() {
                view["ranges"] = resource["ranges"]["range"].clone();
            } else {
                view["scalar"] = resource["scalar"]["value"].clone();
            }
            view
        });
        let offer = json!({
            "id": self.offer["id"]["value"], "hostname": self.offer["hostname"], "agentId": self.offer["agent_id"]["value"],
            "resources": resources.collect::<Vec<_>>(), "attributes": [],
        });
        json!({ "offer": offer, "reason": [REASONS[self.reason]], "timestamp": text(self.at) })
    }
}
