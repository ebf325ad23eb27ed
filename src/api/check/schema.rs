//! Types, ranges, patterns and required fields, told in the words that kubectl users know.

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::paths::{Location, LocationSegment};
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::{Value, json};

use super::Fault;
use super::spot::join;
use super::words;

/// A schema that is ready for use.
pub struct Schema {
    source: Value,
    validator: Validator,
}

/// The schema cannot be compiled.
#[derive(Debug, thiserror::Error)]
#[error("schema: {0}")]
pub struct BadSchema(String);

impl Schema {
    /// # Errors
    /// When `source` is no schema.
    pub fn new(source: &Value) -> Result<Self, BadSchema> {
        let mut source = source.clone();
        as_json_schema(&mut source);
        // The regex crate has the syntax and the guarantees of Go's regexp.
        let options = jsonschema::options().with_pattern_options(PatternOptions::regex());
        let validator = options.build(&source).map_err(|error| BadSchema(error.to_string()))?;
        Ok(Self { source, validator })
    }

    /// Everything that is wrong with `value`.
    pub fn faults(&self, value: &Value) -> Vec<Fault> {
        self.validator.iter_errors(value).map(|error| self.fault(&error)).collect()
    }

    fn fault(&self, error: &ValidationError<'_>) -> Fault {
        let field = path(error.instance_path());
        let value = error.instance();
        match error.kind() {
            ValidationErrorKind::Required { property } => {
                Fault::new(join(&field, property.as_str().unwrap_or_default()), "Required value".to_owned())
            }
            ValidationErrorKind::OneOfMultipleValid { .. } | ValidationErrorKind::OneOfNotValid { .. } => {
                one_of(field, value, &self.alternatives(error.schema_path()))
            }
            kind => Fault::new(field, message(kind, value)),
        }
    }

    /// The fields of which exactly one must be named.
    fn alternatives(&self, location: &Location) -> Vec<&str> {
        let branches = self.source.pointer(location.as_str()).and_then(Value::as_array);
        branches.into_iter().flatten().filter_map(|branch| branch["required"][0].as_str()).collect()
    }
}

/// What is different in the schemas of Kubernetes.
fn as_json_schema(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
                map.insert("type".to_owned(), json!(["integer", "string"]));
            }
            map.values_mut().for_each(as_json_schema);
        }
        Value::Array(items) => items.iter_mut().for_each(as_json_schema),
        _ => {}
    }
}

/// As people write it: `spec.demand[0].name`.
fn path(location: &Location) -> String {
    location.into_iter().fold(String::new(), |path, segment| match segment {
        LocationSegment::Property(name) => join(&path, &name),
        LocationSegment::Index(index) => format!("{path}[{index}]"),
    })
}

fn message(kind: &ValidationErrorKind, value: &Value) -> String {
    use ValidationErrorKind as Kind;
    match kind {
        Kind::Type { kind } => wrong_type(kind, value),
        Kind::Enum { options } => unsupported(options, value),
        Kind::Minimum { limit } => format!("Invalid value: {value}: must be >= {}", words::number(limit)),
        Kind::Maximum { limit } => format!("Invalid value: {value}: must be <= {}", words::number(limit)),
        Kind::MinLength { limit: 1 } => "Invalid value: \"\": must not be empty".to_owned(),
        Kind::MinLength { limit } => format!("Invalid value: {}: must have at least {limit} characters", words::short(value)),
        Kind::MaxLength { limit } => format!("Too long: may not be more than {limit} characters"),
        Kind::MinItems { limit } => format!("Invalid value: must have at least {limit} {}", words::items(*limit)),
        Kind::MaxItems { limit } => {
            format!("Too many: {}: must have at most {limit} items", value.as_array().map_or(0, Vec::len))
        }
        Kind::Pattern { pattern } => format!("Invalid value: {}: {}", words::short(value), words::pattern(pattern)),
        other => format!("Invalid value: {}: does not pass '{}'", words::short(value), other.keyword()),
    }
}

fn wrong_type(kind: &TypeKind, value: &Value) -> String {
    let type_name = match kind {
        TypeKind::Single(single) => single.to_string(),
        TypeKind::Multiple(_) => {
            let hint = if value.is_number() { ": put a number with a fraction in quotes" } else { "" };
            return format!("Invalid value: {}: must be of type integer or string{hint}", words::short(value));
        }
    };
    let hint = match (type_name.as_str(), value) {
        ("string", Value::Number(_) | Value::Bool(_)) => ": put it in quotes",
        ("integer" | "number" | "boolean", Value::String(text)) if looks_like(&type_name, text) => ": leave out the quotes",
        _ => "",
    };
    format!("Invalid value: {}: must be of type {type_name}{hint}", words::short(value))
}

fn looks_like(kind: &str, text: &str) -> bool {
    match kind {
        "integer" => text.parse::<i64>().is_ok(),
        "number" => text.parse::<f64>().is_ok(),
        _ => matches!(text, "true" | "false"),
    }
}

fn unsupported(options: &Value, value: &Value) -> String {
    let options: Vec<&str> = options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let supported = options.iter().map(|option| format!("\"{option}\"")).collect::<Vec<_>>().join(", ");
    let guess = words::did_you_mean(value.as_str().unwrap_or_default(), options.iter().copied());
    format!("Unsupported value: {}: supported values: {supported}{guess}", words::short(value))
}

fn one_of(field: String, value: &Value, names: &[&str]) -> Fault {
    if let [only] = names {
        return Fault::new(join(&field, only), "Required value".to_owned());
    }
    let all = words::list(names, "and");
    let present: Vec<&str> = names.iter().copied().filter(|name| value.get(name).is_some()).collect();
    let message = match present.as_slice() {
        [] => format!("Required value: name exactly one of {all}"),
        several => format!("Invalid value: name exactly one of {all}, not {} at once", words::list(several, "and")),
    };
    Fault::new(field, message)
}
