//! A status of either kind: what of it is worth a write, and how soon.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::Value;

use super::target::Kind;
use crate::api::status::{AppStatus, PoolStatus};
use crate::policy::world::Millis;

/// Characters of a reason or message: enough for people, and far from what makes objects large.
const WORDS: usize = 1024;
/// The same where the object is too large already.
const FEW_WORDS: usize = 200;

/// A status as it is written: without what always moves, and without what others write.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    App(Box<AppStatus>),
    Pool(Box<PoolStatus>),
}

/// How soon a difference has to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Only numbers and words that change all the time under load.
    Noise,
    /// Anything else.
    Counts,
    /// What tools wait for: the phase, a condition's status, the generation.
    State,
}

impl Status {
    #[must_use]
    pub fn app(mut status: AppStatus) -> Self {
        for metric in &mut status.demand {
            // It would be outdated at once.
            metric.age_milliseconds = None;
            metric.message = metric.message.as_deref().map(|message| cut(message, WORDS));
        }
        status.reason = cut(&status.reason, WORDS);
        cut_messages(&mut status.conditions, WORDS);
        Self::App(Box::new(status))
    }

    #[must_use]
    pub fn pool(mut status: PoolStatus) -> Self {
        // Somebody else's: see `framework`.
        status.framework_id = None;
        status.message = cut(&status.message, WORDS);
        cut_messages(&mut status.conditions, WORDS);
        Self::Pool(Box::new(status))
    }

    /// As the API server shows it.
    #[must_use]
    pub fn read(kind: Kind, value: Value) -> Option<Self> {
        match kind {
            Kind::App => serde_json::from_value(value).ok().map(|status| Self::App(Box::new(status))),
            Kind::Pool => serde_json::from_value(value).ok().map(|status| Self::Pool(Box::new(status))),
        }
    }

    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        match self {
            Self::App(app) => &app.conditions,
            Self::Pool(pool) => &pool.conditions,
        }
    }

    /// As it is sent.
    #[must_use]
    pub fn json(&self) -> Value {
        let value = match self {
            Self::App(app) => serde_json::to_value(app),
            Self::Pool(pool) => serde_json::to_value(pool),
        };
        // These types have no maps with keys that are not text, and so nothing that could fail.
        value.unwrap_or_default()
    }

    /// The same for an object that is too large; says so.
    #[must_use]
    pub fn shortened(&self) -> Self {
        const NOTE: &str = "(shortened, as the object is too large) ";
        let mut short = self.clone();
        let (words, conditions) = match &mut short {
            Self::App(app) => {
                app.demand.clear();
                app.demand_summary = cut(&app.demand_summary, FEW_WORDS);
                (&mut app.reason, &mut app.conditions)
            }
            Self::Pool(pool) => (&mut pool.message, &mut pool.conditions),
        };
        if !words.starts_with(NOTE) {
            *words = format!("{NOTE}{}", cut(words, FEW_WORDS));
            cut_messages(conditions, FEW_WORDS);
        }
        short
    }

    /// How soon this has to be written in place of what is there.
    #[must_use]
    pub fn urgency(&self, shown: Option<&Self>) -> Urgency {
        let Some(shown) = shown else { return Urgency::State };
        if self.state_differs(shown) {
            Urgency::State
        } else if shown.quiet().covers(&self.quiet()) {
            Urgency::Noise
        } else {
            Urgency::Counts
        }
    }

    fn state_differs(&self, shown: &Self) -> bool {
        let word = |status: &Self| match status {
            Self::App(app) => (app.observed_generation, app.phase),
            Self::Pool(pool) => (pool.observed_generation, None),
        };
        let shows = |mine: &Condition| shown.conditions().iter().any(|c| c.type_ == mine.type_ && c.status == mine.status);
        word(self) != word(shown) || !self.conditions().iter().all(shows)
    }

    /// Without what changes all the time under load.
    fn quiet(&self) -> Self {
        let mut quiet = self.clone();
        match &mut quiet {
            Self::App(app) => {
                app.demand.clear();
                app.demand_summary.clear();
                app.reason.clear();
                app.last_convergence_milliseconds = None;
                app.conditions.iter_mut().for_each(|condition| condition.message.clear());
            }
            Self::Pool(pool) => {
                (pool.tasks, pool.median_reaction_milliseconds, pool.p99_reaction_milliseconds) = (0, None, None);
                pool.used.clear();
                pool.free.clear();
            }
        }
        quiet
    }

    /// Whether all of the other is in this one, whatever else is.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        covers(&self.json(), &other.json())
    }

    /// Milliseconds between writes of nothing but noise: people look at apps, and at pools only now and then.
    #[must_use]
    pub fn noise_gap(&self) -> Millis {
        match self {
            Self::App(_) => 2000,
            Self::Pool(_) => 5000,
        }
    }
}

fn covers(shown: &Value, wanted: &Value) -> bool {
    match (shown, wanted) {
        (Value::Object(shown), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| shown.get(name).is_some_and(|shown| covers(shown, wanted)))
        }
        // Both lists of ours are maps to the API server.
        (Value::Array(shown), Value::Array(wanted)) => {
            wanted.iter().all(|wanted| shown.iter().any(|shown| name(shown) == name(wanted) && covers(shown, wanted)))
        }
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => shown == wanted,
    }
}

fn name(item: &Value) -> Option<&Value> {
    item.get("type").or_else(|| item.get("name"))
}

fn cut_messages(conditions: &mut [Condition], length: usize) {
    for condition in conditions {
        condition.message = cut(&condition.message, length);
    }
}

/// At most so many characters; where some are left out, the last one says so.
#[must_use]
pub fn cut(text: &str, length: usize) -> String {
    if text.chars().nth(length).is_none() {
        return text.to_owned();
    }
    let kept = text.chars().take(length.saturating_sub(1));
    kept.chain(['…']).collect()
}

/// At most so many bytes of UTF-8; where some are left out, the end says so.
#[must_use]
pub fn cut_bytes(text: &str, length: usize) -> String {
    const MARK: char = '…';
    if text.len() <= length {
        return text.to_owned();
    }
    let kept = text.floor_char_boundary(length.saturating_sub(MARK.len_utf8()));
    text[..kept].chars().chain([MARK]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::Phase;
    use crate::kubernetes::testing::app_status;

    fn changed(change: impl FnOnce(&mut AppStatus)) -> Status {
        let mut status = app_status();
        change(&mut status);
        Status::app(status)
    }

    #[test]
    fn the_kind_of_difference_tells_how_soon() {
        let shown = Status::app(app_status());
        let urgency = |status: &Status| status.urgency(Some(&shown));
        assert_eq!(urgency(&changed(|status| status.demand[0].value = Some(43.0))), Urgency::Noise);
        assert_eq!(urgency(&changed(|status| status.reason = "other".to_owned())), Urgency::Noise);
        assert_eq!(urgency(&changed(|status| status.running = 4)), Urgency::Counts);
        assert_eq!(urgency(&changed(|status| status.phase = Some(Phase::Converged))), Urgency::State);
        assert_eq!(urgency(&changed(|status| status.conditions[0].status = "True".to_owned())), Urgency::State);
        assert_eq!(urgency(&changed(|status| status.observed_generation = 2)), Urgency::State);
        assert_eq!(shown.urgency(None), Urgency::State);
    }

    #[test]
    fn what_others_added_does_not_matter() {
        let ours = Status::app(app_status());
        let mut theirs = app_status();
        let mut foreign = theirs.conditions[0].clone();
        foreign.type_ = "Watched".to_owned();
        theirs.conditions.insert(0, foreign);
        theirs.conditions.reverse();
        let theirs = Status::App(Box::new(theirs));
        assert!(theirs.covers(&ours) && !ours.covers(&theirs));
        assert!(!changed(|status| status.running = 99).covers(&ours));
        assert!(!changed(|status| status.conditions.clear()).covers(&ours));
    }

    #[test]
    fn bytes_are_counted_where_the_server_counts_them() {
        assert_eq!(cut_bytes("äöü", 6), "äöü");
        assert_eq!(cut_bytes("äöüß", 7), "äö…");
        assert_eq!(cut_bytes("äöüß", 6), "ä…");
        assert_eq!(cut_bytes("abcdefg", 6), "abc…");
        for letter in ["x", "ü", "…", "🦀"] {
            let note = cut_bytes(&letter.repeat(2000), 1024);
            assert!((1021..=1024).contains(&note.len()) && note.ends_with('…'), "{}", note.len());
        }
    }

    #[test]
    fn words_are_cut_at_characters() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äö…");
        let long = changed(|status| status.reason = "ü".repeat(5000));
        let Status::App(app) = &long else { return };
        assert_eq!(app.reason.chars().count(), 1024);
        let short = long.shortened();
        assert_eq!(short.shortened(), short);
        let Status::App(app) = &short else { return };
        assert!(app.demand.is_empty() && app.reason.len() < 600, "{}", app.reason);
        assert!(app.reason.starts_with("(shortened"));
    }
}
