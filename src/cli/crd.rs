//! `microscaler crd`: prints the custom resource definitions.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Number, Value};

use crate::api::crd;

/// Print the custom resource definitions, for kubectl apply.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:
  microscaler crd | kubectl apply --server-side -f -
  microscaler crd --output-dir crds")]
pub struct Args {
    /// Write a file for each definition into this directory instead.
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
}

/// # Errors
/// When the output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let definitions = crd::all();
    if let Some(dir) = &args.output_dir {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        for definition in &definitions {
            let file = dir.join(file_name(definition));
            std::fs::write(&file, yaml(definition)?).with_context(|| format!("cannot write {}", file.display()))?;
        }
    } else {
        let documents = definitions.iter().map(yaml).collect::<anyhow::Result<Vec<_>>>()?;
        std::io::stdout().write_all(documents.join("---\n").as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The name of a definition's file, such as `microscaledapps.yaml`.
#[must_use]
pub fn file_name(definition: &CustomResourceDefinition) -> String {
    format!("{}.yaml", definition.spec.names.plural)
}

/// A definition as its file holds it.
///
/// # Errors
/// When it cannot be written as YAML.
pub fn yaml(definition: &CustomResourceDefinition) -> anyhow::Result<String> {
    let mut value = serde_json::to_value(definition)?;
    whole_numbers(&mut value);
    let text = serde_saphyr::to_string(&value)?;
    Ok(format!("# Made by `microscaler crd --output-dir crds` from src/api.\n{text}"))
}

/// Bounds are floating point in the types of Kubernetes; people write 1, not 1.0.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Object(map) => map.values_mut().for_each(whole_numbers),
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Number(number) => {
            if let Some(whole) = number.as_f64().filter(|f| f.fract() == 0.0).and_then(|f| format!("{f:.0}").parse::<i64>().ok())
            {
                *number = Number::from(whole);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_committed_files_are_what_is_printed() {
        for definition in crd::all() {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds").join(file_name(&definition));
            let committed = std::fs::read_to_string(&file).unwrap_or_default();
            let is_current = committed == yaml(&definition).unwrap();
            assert!(is_current, "{} is out of date, run: cargo run -- crd --output-dir crds", file.display());
        }
    }

    #[test]
    fn what_is_printed_means_what_the_types_say() {
        for definition in crd::all() {
            let mut value = serde_json::to_value(&definition).unwrap();
            whole_numbers(&mut value);
            let read: Value = serde_saphyr::from_str(&yaml(&definition).unwrap()).unwrap();
            assert_eq!(read, value);
        }
    }
}
