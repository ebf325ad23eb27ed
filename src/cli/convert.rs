//! `microscaler convert`: from others' scaling objects to ours.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use crate::api::check::Checker;
use crate::convert::{Converted, convert};

/// Turn scaling objects of others into MicroscaledApps.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    from: From,
}

#[derive(clap::Subcommand)]
enum From {
    /// Turn KEDA's ScaledObjects, and HorizontalPodAutoscalers, into MicroscaledApps.
    ///
    /// Deployments, StatefulSets and TriggerAuthentications in the same file are made use of. The apps go to standard output, and what could
    /// not be carried over to standard error.
    #[command(after_help = "Examples:
  microscaler convert keda shop.yaml > app.yaml
  kubectl get scaledobject/shop deployment/shop triggerauthentication/shop -o yaml | microscaler convert keda -")]
    Keda {
        /// The file, or - for standard input.
        #[arg(value_name = "FILE|-")]
        file: PathBuf,
    },
}

/// # Errors
/// When the file cannot be read, holds nothing to convert, or standard output is gone.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let From::Keda { file } = &args.from;
    let text = read(file)?;
    let Converted { apps, notes } = convert(&text).with_context(|| file.display().to_string())?;
    let mut out = std::io::stdout().lock();
    for (nth, app) in apps.iter().enumerate() {
        let separator = if nth > 0 { "---\n" } else { "" };
        write!(out, "{separator}{}", serde_saphyr::to_string(app)?)?;
    }
    for note in &notes {
        anstream::eprintln!("note: {note}");
    }
    let checker = Checker::new();
    let problems: usize = apps.iter().map(|app| checker.check_value(app.clone()).err().map_or(0, |faults| faults.len())).sum();
    match problems {
        0 => anstream::eprintln!("{} converted; look at the notes, and then: microscaler check", count(apps.len(), "app")),
        _ => anstream::eprintln!(
            "{} converted, not complete yet: microscaler check tells what is missing",
            count(apps.len(), "app")
        ),
    }
    Ok(ExitCode::SUCCESS)
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn read(file: &Path) -> anyhow::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}
