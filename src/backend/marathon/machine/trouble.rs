//! What has to be said of an app, and whether anything may be done for it.

use super::{Machine, Out};
use crate::api::validated::MarathonPool;
use crate::backend::marathon::ledger::Managed;
use crate::policy::world::{Millis, Trouble, World};

/// What was refused is tried again after this time.
const REFUSED_MS: u64 = 30_000;
/// A replica that finds no place for so long is worth a word.
const LONG_WAIT_MS: u64 = 10_000;

impl Machine {
    /// Brings up to date what is said of each app.
    pub(super) fn judge(&mut self, world: &mut World, now: Millis, out: &mut Out) {
        let Self { apps, pool, by_id, .. } = self;
        for (key, app) in apps.iter_mut().filter(|(_, app)| app.given.is_some()) {
            // It may have been mended on either side.
            app.refused.take_if(|(_, since)| *since + REFUSED_MS <= now);
            let other = by_id.get(&app.id).filter(|other| *other != key);
            let trouble = match other {
                Some(other) => Some(held("SameApp", format!("{} is scaled by {other} already", app.id))),
                None => trouble(app, pool, now),
            };
            let Some(view) = world.apps.get_mut(key) else { continue };
            if view.trouble != trouble {
                let news = trouble.as_ref().filter(|trouble| trouble.stalled);
                if let Some(Trouble { word, message, .. }) = news {
                    out.note(true, word, format!("{key}: {message}"));
                }
                out.applied.told.push(key.clone());
                out.applied.decide = true;
                view.trouble.clone_from(&trouble);
            }
            app.trouble = trouble;
        }
    }
}

fn held(word: &'static str, message: String) -> Trouble {
    Trouble { word, message: message.into(), holds: true, stalled: true }
}

fn trouble(app: &Managed, pool: &MarathonPool, now: Millis) -> Option<Trouble> {
    let id = &app.id;
    if let Err(unfit) = &app.wording {
        return Some(held("NotOnMarathon", unfit.clone()));
    }
    if !app.sought {
        return Some(Trouble { stalled: false, ..held("NotReadYet", format!("{id} has not been looked for in Marathon yet")) });
    }
    let Some(known) = &app.known else {
        let missing = || held("NoSuchApp", format!("there is no app {id} in Marathon: make it there, or give a template"));
        return if app.owned { refused(app) } else { Some(missing()) };
    };
    if app.owned && known.labels.as_ref().is_none_or(|[key, of, _]| key != app.key.as_str() || of != pool.key.as_str()) {
        let remedy = "name another marathonApp, or leave the template out to scale it as it is";
        return Some(held("NotOurs", format!("Marathon has an app {id} that was not made for this one: {remedy}")));
    }
    if app.conflict.yielded.is_some() {
        let what = format!("somebody else sets the instances of {id}, now to {}", known.instances);
        return Some(held("Conflict", format!("{what}; it is left alone until its spec is changed")));
    }
    refused(app).or_else(|| waits(app, now))
}

fn refused(app: &Managed) -> Option<Trouble> {
    app.refused.as_ref().map(|(why, _)| held("Refused", why.clone()))
}

/// Why replicas do not come, or do not go.
fn waits(app: &Managed, now: Millis) -> Option<Trouble> {
    let known = app.known.as_ref()?;
    let told = |word, message: String| Some(Trouble { word, message: message.into(), holds: false, stalled: false });
    let queued = app.queued.as_ref();
    let why = queued.and_then(|queued| queued.why()).map(|why| format!(" ({why})")).unwrap_or_default();
    if app.waiting.iter().any(|waiting| waiting.since + LONG_WAIT_MS <= now) {
        let count = app.waiting.len();
        return match queued {
            Some(queued) if queued.is_delayed() => {
                let seconds = queued.delay.time_left_seconds;
                told("Delayed", format!("Marathon puts off {count} launches of {} for {seconds} s after failures", app.id))
            }
            Some(_) => {
                told("Unplaced", format!("{count} replicas wait in the queue of Marathon, which finds no place for them{why}"))
            }
            None => told(
                "NotActing",
                format!("Marathon was asked for {} instances and does not start {count} of them", known.instances),
            ),
        };
    }
    let unwanted = (known.instances - app.target).min(app.unplaced());
    if unwanted > 0 && queued.is_some_and(|queued| queued.count > 0) {
        let message = format!(
            "Marathon still looks for a place for {unwanted} replicas that are not wanted any more{why}: to take them back, it would end \
             running ones first"
        );
        return told("Surplus", message);
    }
    None
}
