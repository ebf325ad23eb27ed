//! What differs between two plans, app by app. In a large pool most of them stay as they are, and whoever looks only at the others is done
//! sooner.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::api::validated::Key;
use crate::policy::plan::Verdict;

type Verdicts = BTreeMap<Key, Arc<Verdict>>;

/// An app that is judged otherwise than before, or not any more, or for the first time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change<'p> {
    pub app: &'p Key,
    pub before: Option<&'p Verdict>,
    pub after: Option<&'p Verdict>,
}

/// In order of their keys.
#[must_use]
pub fn between<'p>(before: &'p Verdicts, after: &'p Verdicts) -> Vec<Change<'p>> {
    let (mut old, mut new) = (before.iter().peekable(), after.iter().peekable());
    let mut changes = Vec::new();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return changes,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((one, _)), Some((other, _))) => one.cmp(other),
        };
        let before = if order.is_le() { old.next() } else { None };
        let after = if order.is_ge() { new.next() } else { None };
        let app = before.or(after).map(|(app, _)| app);
        let (before, after) = (before.map(|(_, verdict)| verdict), after.map(|(_, verdict)| verdict));
        let is_kept = before.zip(after).is_some_and(|(before, after)| Arc::ptr_eq(before, after));
        if let Some(app) = app.filter(|_| !is_kept && before != after) {
            changes.push(Change { app, before: before.map(|it| &**it), after: after.map(|it| &**it) });
        }
    }
}

/// Apps of which the last report may not be true any more.
#[derive(Debug, Default)]
pub struct Changed {
    pub all: bool,
    pub apps: BTreeSet<Key>,
}

impl Changed {
    #[must_use]
    pub fn has(&self, app: &Key) -> bool {
        self.all || self.apps.contains(app)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::Phase;

    fn verdicts(list: &[(&str, i64)]) -> Verdicts {
        let (phase, demand, reasons) = (Phase::Converged, Vec::new(), Vec::new());
        let [granted, running, ready, starting, stopping, pending, outdated] = [0; 7];
        let nothing =
            Verdict { wanted: 0, granted, running, ready, starting, stopping, pending, outdated, phase, demand, reasons };
        let verdict = |wanted: &i64| Verdict { wanted: *wanted, ..nothing.clone() };
        list.iter().map(|(name, wanted)| (Key::new("default", name), verdict(wanted).into())).collect()
    }

    #[test]
    fn only_what_differs_is_named() {
        let before = verdicts(&[("a", 1), ("b", 2), ("c", 3), ("e", 5)]);
        let after = verdicts(&[("b", 2), ("c", 4), ("d", 1), ("e", 5), ("f", 6)]);
        let named = |change: &Change| {
            let wanted = |verdict: Option<&Verdict>| verdict.map(|verdict| verdict.wanted);
            (change.app.name().to_owned(), wanted(change.before), wanted(change.after))
        };
        let expected = [("a", Some(1), None), ("c", Some(3), Some(4)), ("d", None, Some(1)), ("f", None, Some(6))];
        let found: Vec<_> = between(&before, &after).iter().map(named).collect();
        assert_eq!(found, expected.map(|(app, before, after)| (app.to_owned(), before, after)));
        assert_eq!(between(&after, &after), []);
    }
}
