//! Specs from a directory of YAML files, taken over as they change.
//!
//! A file with a problem keeps what it last held in force. Files are read again on a notice from the kernel and, since such notices can
//! be lost (network file systems, overflow), every few seconds anyway; unchanged ones are known by size and time of change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecursiveMode, Watcher};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::{AppSpec, PoolSpec, SpecProblem, Specs, SpecsFeed};
use crate::api::check::{Checker, Kind, Object, Problem};
use crate::api::validated::{App, Key, Pool};
use crate::api::{MicroscaledApp, MicroscalingPool};
use crate::engine::clock;

/// Time for an editor to finish writing; well within the 100 ms in which a change is taken over.
const SETTLE: Duration = Duration::from_millis(15);
/// Some editors rename a file away before they write it anew. One that is missing for longer is deleted.
const VANISHED: Duration = Duration::from_millis(60);
/// A file changed within this time may change again without its time of change showing it.
const RACY: Duration = Duration::from_millis(100);
/// Lost notices are made up for within this time.
const RESCAN: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the manifests in {} (--manifests names the directory)", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("cannot watch {}", path.display())]
    Unwatchable { path: PathBuf, source: notify::Error },
}

/// Reads the directory, if there is one, this once.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: Option<&Path>, given: Vec<Object>) -> Result<Specs, Error> {
    let mut directory = Directory::new(path.unwrap_or(Path::new("")), given);
    if let Some(path) = path {
        std::fs::read_dir(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
        directory.rescan();
    }
    Ok(directory.specs())
}

/// Reads the directory once and then follows it for as long as the feed has readers.
///
/// # Errors
/// When the directory cannot be read or watched now. Later failures keep what is in force and are said in the feed.
pub fn follow(path: &Path, given: Vec<Object>) -> Result<SpecsFeed, Error> {
    let (notices, mut noticed) = mpsc::channel(1);
    let unwatchable = |source| Error::Unwatchable { path: path.to_owned(), source };
    // A full channel already holds a notice; one is enough for any number of changes.
    let heed = move |event| {
        if may_have_changed(&event) {
            notices.try_send(()).unwrap_or(());
        }
    };
    let mut watcher = notify::recommended_watcher(heed).map_err(unwatchable)?;
    std::fs::read_dir(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
    watcher.watch(path, RecursiveMode::Recursive).map_err(unwatchable)?;

    let mut directory = Directory::new(path, given);
    directory.rescan();
    let (publish, feed) = watch::channel(Arc::new(directory.specs()));
    tokio::spawn(async move {
        let _watcher = watcher;
        loop {
            let pause = if directory.misses_any() { VANISHED } else { RESCAN };
            tokio::select! {
                _ = noticed.recv() => tokio::time::sleep(SETTLE).await,
                () = tokio::time::sleep(pause) => {}
                () = publish.closed() => return,
            }
            while noticed.try_recv().is_ok() {}
            if directory.rescan() {
                publish.send_replace(Arc::new(directory.specs()));
            }
        }
    });
    Ok(feed)
}

/// To read the directory is an event, too, and to answer that by reading it again would never end.
fn may_have_changed(event: &notify::Result<Event>) -> bool {
    let is_written = |kind: AccessKind| kind == AccessKind::Close(AccessMode::Write);
    !event.as_ref().is_ok_and(|event| matches!(event.kind, EventKind::Access(kind) if !is_written(kind)))
}

/// What is known of the directory.
struct Directory {
    path: PathBuf,
    checker: Checker,
    files: BTreeMap<PathBuf, FileState>,
    /// Objects that come from the command line.
    given: Vec<Object>,
    unreadable: Option<String>,
    /// Generation and time of creation of each object, as an API server would keep them.
    seen: BTreeMap<(Kind, Key), Seen>,
}

/// One file: its last good objects and what is wrong with it now.
#[derive(Default)]
struct FileState {
    /// Time of change and size when it was read; `None` while these cannot be relied on.
    stamp: Option<(SystemTime, u64)>,
    text: Option<String>,
    objects: Vec<Object>,
    problems: Vec<SpecProblem>,
    missing_since: Option<Instant>,
}

struct Seen {
    metadata: ObjectMeta,
    spec: serde_json::Value,
}

impl Directory {
    fn new(path: &Path, given: Vec<Object>) -> Self {
        let path = path.to_owned();
        Self { path, checker: Checker::new(), files: BTreeMap::new(), given, unreadable: None, seen: BTreeMap::new() }
    }

    /// Reads what has changed. True if anything has.
    fn rescan(&mut self) -> bool {
        let found = match manifests(&self.path) {
            Ok(found) => found,
            Err(error) => {
                let message = format!("{}: {error}: all specs stay as they were", self.path.display());
                return self.unreadable.replace(message.clone()).as_ref() != Some(&message);
            }
        };
        let mut changed = self.unreadable.take().is_some();
        let before = self.files.len();
        let now = clock::instant();
        self.files.retain(|path, file| found.contains_key(path) || !file.has_vanished(now));
        changed |= self.files.len() != before;
        for (path, stamp) in found {
            let known = self.files.entry(path.clone()).or_default();
            known.missing_since = None;
            if known.stamp != Some(stamp) {
                changed |= known.read(&path, &self.checker);
                // The clock of file systems is coarse: a file written just now may be written again with the same stamp.
                // One that could not be read is tried again, as a change of its permissions shows in neither.
                known.stamp = Some(stamp).filter(|(modified, _)| known.text.is_some() && clock::wall_age(*modified) > RACY);
            }
        }
        changed
    }

    fn misses_any(&self) -> bool {
        self.files.values().any(|file| file.missing_since.is_some())
    }

    fn specs(&mut self) -> Specs {
        let mut specs = Specs { complete: true, ..Specs::default() };
        // What the command line gives stands in for a namesake in a file.
        let replaced = |object: &Object| self.given.iter().any(|given| same_object(given, object));
        let from_files = self.files.values().flat_map(|file| &file.objects).filter(|object| !replaced(object));
        let objects: Vec<Object> = self.given.iter().chain(from_files).cloned().collect();
        for object in objects {
            match object {
                Object::App(raw, app) => self.add_app(&mut specs, &raw, &app),
                Object::Pool(raw, pool) => self.add_pool(&mut specs, &raw, &pool),
            }
        }
        specs.problems.extend(self.files.values().flat_map(|file| file.problems.iter().cloned()));
        specs.problems.extend(self.unreadable.iter().map(|message| SpecProblem::new(None, message.clone())));
        specs.complete = specs.problems.is_empty();
        specs.problems.extend(super::homeless(&specs));
        self.seen.retain(|(kind, key), _| match kind {
            Kind::App => specs.apps.contains_key(key),
            Kind::Pool => specs.pools.contains_key(key),
        });
        specs
    }

    fn add_app(&mut self, specs: &mut Specs, raw: &MicroscaledApp, app: &App) {
        if specs.apps.contains_key(&app.key) {
            return specs.problems.push(twice(Kind::App, &app.key));
        }
        let metadata = self.metadata(Kind::App, &app.key, &raw.metadata, &raw.spec);
        let app = App { generation: metadata.generation.unwrap_or(0), ..app.clone() };
        let raw = Arc::new(MicroscaledApp { metadata, ..raw.clone() });
        specs.apps.insert(app.key.clone(), AppSpec { raw, app: Arc::new(app) });
    }

    fn add_pool(&mut self, specs: &mut Specs, raw: &MicroscalingPool, pool: &Pool) {
        if specs.pools.contains_key(&pool.key) {
            return specs.problems.push(twice(Kind::Pool, &pool.key));
        }
        let metadata = self.metadata(Kind::Pool, &pool.key, &raw.metadata, &raw.spec);
        let pool = Pool { generation: metadata.generation.unwrap_or(0), ..pool.clone() };
        let raw = Arc::new(MicroscalingPool { metadata, ..raw.clone() });
        specs.pools.insert(pool.key.clone(), PoolSpec { raw, pool: Arc::new(pool) });
    }

    /// Keeps generation and creation time as an API server does: the generation counts changes of the spec.
    fn metadata(&mut self, kind: Kind, key: &Key, written: &ObjectMeta, spec: &impl serde::Serialize) -> ObjectMeta {
        let spec = serde_json::to_value(spec).unwrap_or_default();
        let fresh = || Seen {
            metadata: ObjectMeta {
                creation_timestamp: Some(Time(clock::timestamp())),
                generation: Some(0),
                ..ObjectMeta::default()
            },
            spec: serde_json::Value::Null,
        };
        let seen = self.seen.entry((kind, key.clone())).or_insert_with(fresh);
        if seen.spec != spec {
            seen.spec = spec;
            seen.metadata.generation = seen.metadata.generation.map(|generation| generation + 1);
        }
        ObjectMeta {
            namespace: Some(key.namespace().to_owned()),
            generation: seen.metadata.generation,
            creation_timestamp: seen.metadata.creation_timestamp.clone(),
            ..written.clone()
        }
    }
}

impl FileState {
    /// Whether it has been missing for long enough that nobody is just writing it anew.
    fn has_vanished(&mut self, now: Instant) -> bool {
        now.saturating_duration_since(*self.missing_since.get_or_insert(now)) >= VANISHED
    }

    /// Takes over the objects of the file; where it has problems, what it last held stays. False if nothing was new.
    fn read(&mut self, path: &Path, checker: &Checker) -> bool {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let message = format!("{}: {error}: its last good specs stay in force", path.display());
                let problems = vec![SpecProblem::new(None, message)];
                self.text = None;
                return std::mem::replace(&mut self.problems, problems.clone()) != problems;
            }
        };
        if self.text.as_ref() == Some(&text) {
            return false;
        }
        let checked = checker.check(path, &text);
        let fresh: Vec<Object> = checked.objects.into_iter().map(|(_, object)| object).collect();
        if fresh.is_empty() && checked.problems.is_empty() && checked.notes.is_empty() && !self.objects.is_empty() {
            // Most likely somebody is just writing it: `helm template … > file` empties it first.
            let message =
                format!("{}: is empty: its last good specs stay in force; delete the file to delete them", path.display());
            warn!("{message}");
            self.problems = vec![SpecProblem::new(None, message)];
            self.text = Some(text);
            return true;
        }
        if checked.problems.is_empty() {
            info!(file = %path.display(), objects = fresh.len(), "manifest taken over");
            self.objects = fresh;
        } else {
            self.merge(fresh);
        }
        self.problems = checked.problems.iter().map(|problem| SpecProblem::new(app_of(problem), problem.to_string())).collect();
        for problem in &self.problems {
            warn!("{}: the last good spec stays in force", problem.message);
        }
        self.text = Some(text);
        true
    }

    /// New objects replace their namesakes; those that the broken file no longer shows stay, for they may be in its broken part.
    fn merge(&mut self, fresh: Vec<Object>) {
        self.objects.retain(|old| !fresh.iter().any(|new| same_object(new, old)));
        self.objects.extend(fresh);
    }
}

fn app_of(problem: &Problem) -> Option<Key> {
    problem.about.as_ref().filter(|(kind, _)| *kind == Kind::App).map(|(_, key)| key.clone())
}

fn same_object(a: &Object, b: &Object) -> bool {
    a.kind() == b.kind() && a.key() == b.key()
}

fn twice(kind: Kind, key: &Key) -> SpecProblem {
    let app = (kind == Kind::App).then(|| key.clone());
    SpecProblem::new(app, format!("{kind} {key} is declared twice; the first one, by file name, counts"))
}

/// All manifests (`*.yaml`, `*.yml`, `*.json`) below `root`, each with what tells whether it has changed: its time of change and its size.
///
/// Hidden files and folders are left out, as editors and Git put theirs there; so are links to folders, which may lead around in a circle.
///
/// # Errors
/// When a folder cannot be read.
pub fn manifests(root: &Path) -> std::io::Result<BTreeMap<PathBuf, (SystemTime, u64)>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if is_manifest(&path)
                // A file may vanish between being listed and being looked at: then it is simply not there.
                && let Ok(metadata) = std::fs::metadata(&path)
                && metadata.is_file()
            {
                found.insert(path, (metadata.modified()?, metadata.len()));
            }
        }
    }
    Ok(found)
}

fn is_manifest(path: &Path) -> bool {
    matches!(path.extension().and_then(|extension| extension.to_str()), Some("yaml" | "yml" | "json"))
}

#[cfg(test)]
mod tests {
    use notify::event::{AccessMode, CreateKind};

    use super::*;

    #[test]
    fn reading_is_no_change() {
        let changed = |kind| may_have_changed(&Ok(Event::new(kind)));
        let accesses =
            [AccessKind::Open(AccessMode::Any), AccessKind::Close(AccessMode::Read), AccessKind::Close(AccessMode::Write)];
        assert_eq!(accesses.map(|kind| changed(EventKind::Access(kind))), [false, false, true]);
        assert!(changed(EventKind::Create(CreateKind::File)) && changed(EventKind::Any));
        assert!(may_have_changed(&Err(notify::Error::generic("the queue has run over"))));
    }
}
