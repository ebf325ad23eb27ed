//! The verdict of a Kubernetes API server on a manifest, without one.
//!
//! A document goes the same way as there: YAML to JSON ([`yaml`], with the line of each field), unknown fields, nulls dropped and
//! defaults set ([`structural`]), `metadata` ([`metadata`]), the schema ([`schema`]), the rules in CEL, and then the one reader of
//! specs, [`App::read`] and [`Pool::read`]. All of it is data of the definitions in [`super::crd`]; nothing is said twice.

mod metadata;
mod scalar;
mod schema;
mod spot;
mod structural;
mod words;
pub(crate) mod yaml;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::cel::{self, CompiledSchema};
use serde_json::Value;

use self::schema::{BadSchema, Schema};
use self::spot::Spot;
use super::validated::{App, Invalid, Key, Pool};
use super::{GROUP, MicroscaledApp, MicroscalingPool, VERSION, crd};

/// A manifest that passed, as written and as used.
#[derive(Clone, Debug)]
pub enum Object {
    App(Arc<MicroscaledApp>, Arc<App>),
    Pool(Arc<MicroscalingPool>, Arc<Pool>),
}

impl Object {
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::App(..) => Kind::App,
            Self::Pool(..) => Kind::Pool,
        }
    }

    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::App(_, app) => &app.key,
            Self::Pool(_, pool) => &pool.key,
        }
    }
}

/// The kinds of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    App,
    Pool,
}

impl Kind {
    /// As in a manifest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::App => "MicroscaledApp",
            Self::Pool => "MicroscalingPool",
        }
    }

    fn of(name: &str) -> Option<Self> {
        [Self::App, Self::Pool].into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is wrong with a field of an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", prefix(.field))]
pub struct Fault {
    /// Such as `spec.demand[0].target`. Empty: the object itself.
    pub field: String,
    pub message: String,
}

impl Fault {
    fn new(field: String, message: String) -> Self {
        Self { field, message }
    }
}

/// What is wrong, and where: `FILE:LINE: FIELD: MESSAGE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: PathBuf,
    /// The first is 1.
    pub line: usize,
    pub field: String,
    pub message: String,
    /// The object, as far as it is known.
    pub about: Option<(Kind, Key)>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}{}", self.file.display(), self.line, prefix(&self.field), self.message)
    }
}

fn prefix(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!("{field}: ") }
}

/// The verdict on a file.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// What passed, each with its line.
    pub objects: Vec<(usize, Object)>,
    /// In the order of lines.
    pub problems: Vec<Problem>,
    /// What was skipped and is no problem.
    pub notes: Vec<String>,
}

/// The definitions, compiled: make one and keep it.
pub struct Checker {
    app: Rules,
    pool: Rules,
}

/// The definition of one kind, compiled.
struct Rules {
    source: Value,
    schema: Schema,
    cel: CompiledSchema,
}

impl Rules {
    fn new(definition: &CustomResourceDefinition) -> Result<Self, BadSchema> {
        let mut source = crd::schema(definition);
        // Status is not the author's: an API server drops it, so it is neither judged nor given defaults.
        source["properties"]["status"] = serde_json::json!({ "x-kubernetes-preserve-unknown-fields": true });
        Ok(Self { schema: Schema::new(&source)?, cel: cel::compile_schema(&source), source })
    }
}

/// Whether a field that no definition names is a problem.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unknown {
    Refused,
    /// Dropped, as an API server has done already: a newer definition may be installed there.
    Dropped,
}

impl Default for Checker {
    fn default() -> Self {
        Self::new()
    }
}

impl Checker {
    /// Compiles the definitions.
    #[must_use]
    #[allow(clippy::expect_used, reason = "the definitions are part of the program, and a test compiles them")]
    pub fn new() -> Self {
        let compile = |definition| Rules::new(&definition).expect("the definitions of the program compile");
        Self { app: compile(crd::app()), pool: compile(crd::pool()) }
    }

    /// Judges each document of a file by itself.
    #[must_use]
    pub fn check(&self, file: &Path, text: &str) -> Checked {
        let mut report = Report { file, checked: Checked::default() };
        for document in yaml::documents(text) {
            match document {
                Ok(document) => {
                    let duplicates = document.duplicates.iter();
                    let faults = duplicates.map(|d| (d.line, Fault::new(d.field.clone(), "key is set twice".to_owned())));
                    self.document(document.value, &document.spot, faults.collect(), &mut report);
                }
                Err(unreadable) => {
                    report.problem(unreadable.line, Fault::new(String::new(), unreadable.fault.to_string()), None);
                }
            }
        }
        report.checked.problems.sort_by_key(|problem| problem.line);
        report.checked
    }

    /// Judges one object that comes from elsewhere, such as an API server. Fields that are not known are not judged.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn check_value(&self, value: Value) -> Result<Object, Vec<Fault>> {
        match kind_of(&value) {
            Recognized::Ours(kind) => self.judge(kind, value, Unknown::Dropped),
            Recognized::Wrong(fault) => Err(vec![fault]),
            Recognized::List | Recognized::Foreign(_) => {
                let message = format!("must be a {} or a {} of {GROUP}/{VERSION}", Kind::App, Kind::Pool);
                Err(vec![Fault::new("kind".to_owned(), message)])
            }
        }
    }

    fn document(&self, value: Value, spot: &Spot, faults: Vec<(usize, Fault)>, report: &mut Report<'_>) {
        match kind_of(&value) {
            Recognized::List => {
                let blocked = !faults.is_empty();
                report.problems(faults, None);
                if !blocked {
                    self.items(value, spot, report);
                }
            }
            Recognized::Foreign(kind) => {
                report.note(spot.line, &format!("{kind} is not a kind of {GROUP}, skipped"));
            }
            Recognized::Wrong(fault) => report.problem(spot.line_of(&fault.field), fault, None),
            Recognized::Ours(kind) => {
                let about = about(kind, &value);
                let verdict = self.judge(kind, value, Unknown::Refused);
                let doubled = !faults.is_empty();
                report.problems(faults, about.as_ref());
                match verdict {
                    Ok(object) if !doubled => report.checked.objects.push((spot.line, object)),
                    Ok(_) => {}
                    Err(faults) => {
                        report.problems(faults.into_iter().map(|f| (spot.line_of(&f.field), f)), about.as_ref());
                    }
                }
            }
        }
    }

    /// The items of a `List`, as `kubectl get -o yaml` writes it.
    fn items(&self, mut list: Value, spot: &Spot, report: &mut Report<'_>) {
        let places = spot.field("items").map_or(&[][..], |items| &items.items);
        let items = list.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
        for (item, place) in items.into_iter().zip(places) {
            self.document(item, place, Vec::new(), report);
        }
    }

    fn judge(&self, kind: Kind, mut value: Value, unknown: Unknown) -> Result<Object, Vec<Fault>> {
        let rules = match kind {
            Kind::App => &self.app,
            Kind::Pool => &self.pool,
        };
        metadata::complete(&mut value);
        let mut faults = metadata::faults(&value);
        value.as_object_mut().and_then(|object| object.remove("status"));
        if unknown == Unknown::Refused {
            structural::unknown_fields(&rules.source, &value, "", &mut faults);
        }
        structural::drop_nulls(&rules.source, &mut value);
        structural::set_defaults(&rules.source, &mut value);
        faults.extend(rules.schema.faults(&value));
        structural::list_keys(&rules.source, &value, "", &mut faults);
        // Rules may rely on the types that the schema promises, and the reader on the rules.
        if faults.is_empty() {
            faults = broken_rules(&rules.cel, &value);
        }
        if faults.is_empty() { read(kind, value).map_err(|fault| vec![fault]) } else { Err(faults) }
    }
}

/// What a document is, by its `apiVersion` and `kind`.
enum Recognized {
    Ours(Kind),
    List,
    Foreign(String),
    Wrong(Fault),
}

fn kind_of(value: &Value) -> Recognized {
    let Some(object) = value.as_object() else {
        return Recognized::Wrong(Fault::new(String::new(), format!("{} is not an object", words::short(value))));
    };
    for field in ["apiVersion", "kind"] {
        match object.get(field) {
            Some(Value::String(text)) if !text.is_empty() => {}
            None | Some(Value::Null | Value::String(_)) => {
                return Recognized::Wrong(Fault::new(field.to_owned(), "Required value".to_owned()));
            }
            Some(other) => {
                let message = format!("Invalid value: {}: must be of type string", words::short(other));
                return Recognized::Wrong(Fault::new(field.to_owned(), message));
            }
        }
    }
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    recognize(text("apiVersion"), text("kind"), object.get("items").is_some_and(Value::is_array))
}

fn recognize(api_version: &str, kind: &str, has_items: bool) -> Recognized {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let ours = group == GROUP;
    if has_items && (api_version == "v1" && kind == "List" || ours && kind.ends_with("List")) {
        return Recognized::List;
    }
    match Kind::of(kind) {
        Some(kind) if ours && version == VERSION => Recognized::Ours(kind),
        Some(_) => {
            let message = format!("no matches for kind \"{kind}\" in version \"{api_version}\": it is of {GROUP}/{VERSION}");
            Recognized::Wrong(Fault::new("apiVersion".to_owned(), message))
        }
        None if ours => {
            let guess = words::did_you_mean(kind, [Kind::App.name(), Kind::Pool.name()].into_iter());
            let message = format!("no matches for kind \"{kind}\" in version \"{api_version}\"{guess}");
            Recognized::Wrong(Fault::new("kind".to_owned(), message))
        }
        None => Recognized::Foreign(format!("{kind} ({api_version})")),
    }
}

fn about(kind: Kind, value: &Value) -> Option<(Kind, Key)> {
    let text = |field: &str| value.pointer(field).and_then(Value::as_str);
    Some((kind, Key::new(text("/metadata/namespace").unwrap_or("default"), text("/metadata/name")?)))
}

fn broken_rules(rules: &CompiledSchema, value: &Value) -> Vec<Fault> {
    let errors = cel::validate_compiled(rules, value, None).err();
    errors.into_iter().flatten().map(|error| Fault::new(error.field_path, error.message)).collect()
}

fn read(kind: Kind, value: Value) -> Result<Object, Fault> {
    let unfit = |error: serde_json::Error| Fault::new(String::new(), error.to_string());
    Ok(match kind {
        Kind::App => {
            let raw: MicroscaledApp = serde_json::from_value(value).map_err(unfit)?;
            let app = App::read(&raw)?;
            Object::App(Arc::new(raw), Arc::new(app))
        }
        Kind::Pool => {
            let raw: MicroscalingPool = serde_json::from_value(value).map_err(unfit)?;
            let pool = Pool::read(&raw)?;
            Object::Pool(Arc::new(raw), Arc::new(pool))
        }
    })
}

impl From<Invalid> for Fault {
    fn from(invalid: Invalid) -> Self {
        match invalid {
            Invalid::Amount { field, problem } => Self::new(field, problem.to_string()),
            Invalid::Field { field, problem } => Self::new(field, problem),
        }
    }
}

/// The verdict in the making.
struct Report<'f> {
    file: &'f Path,
    checked: Checked,
}

impl Report<'_> {
    fn problems(&mut self, faults: impl IntoIterator<Item = (usize, Fault)>, about: Option<&(Kind, Key)>) {
        for (line, fault) in faults {
            self.problem(line, fault, about.cloned());
        }
    }

    fn problem(&mut self, line: usize, fault: Fault, about: Option<(Kind, Key)>) {
        let Fault { field, message } = fault;
        self.checked.problems.push(Problem { file: self.file.to_owned(), line, field, message, about });
    }

    fn note(&mut self, line: usize, note: &str) {
        self.checked.notes.push(format!("{}:{line}: {note}", self.file.display()));
    }
}
