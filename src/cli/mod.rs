//! One verb a file. Exit codes: 0 done, 1 it went wrong or problems were found, 2 wrong usage.

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

pub mod check;
pub mod client;
pub mod completion;
pub mod convert;
pub mod crd;
pub mod describe;
pub mod drain;
pub mod executor;
pub mod get;
pub mod operator;
pub mod plan;
pub mod push;
pub mod run;
pub mod table;

/// Keeps containers in step with demand in milliseconds, on a fixed pool of Apache Mesos hosts.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, after_help = EXAMPLES, max_term_width = 80)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,

    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, env = "MICROSCALER_LOG_FORMAT", help_heading = "Logging")]
    log_format: LogFormat,

    /// What is logged, as for RUST_LOG: error, warn, info, debug, or microscaler::backend=debug,info.
    #[arg(long, global = true, env = "MICROSCALER_LOG", help_heading = "Logging")]
    log: Option<String>,
}

const EXAMPLES: &str = "Examples:
  microscaler check manifests/                 is everything in these files right?
  microscaler run --manifests manifests/       keep it running
  microscaler get apps -w                      look on
  microscaler push shop/search waiting 200     tell the demand";

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Keep the apps of a directory of manifests running, without Kubernetes.
    Run(run::Args),
    /// Keep the MicroscaledApps of a Kubernetes cluster running on Mesos.
    Operator(operator::Args),
    /// Judge manifests as a Kubernetes API server would, with file, line and field.
    Check(check::Args),
    /// Turn scaling objects of KEDA and HPA into MicroscaledApps.
    Convert(convert::Args),
    /// Print what would be done, and why, without doing it.
    Plan(plan::Args),
    /// Show apps, pools or tasks of a running Microscaler.
    Get(get::Args),
    /// Show one app or pool in full, with its conditions and events.
    Describe(describe::Args),
    /// Tell a running Microscaler the value of a metric.
    Push(push::Args),
    /// End every task of a pool.
    Drain(drain::Args),
    /// Print the CustomResourceDefinitions.
    Crd(crd::Args),
    /// Print a completion script for a shell.
    Completion(completion::Args),
    #[command(hide = true)]
    Executor(executor::Args),
}

/// Runs the verb.
#[must_use]
pub fn main(cli: Cli) -> ExitCode {
    // Small, and started on every agent: nothing that it has no use for.
    if let Command::Executor(args) = &cli.command {
        return finish(executor::run(args, cli.log.as_deref()));
    }
    // One TLS provider for all; installing it twice is no harm, so the answer does not matter.
    drop(rustls::crypto::ring::default_provider().install_default());
    start_logging(&cli);
    finish(match cli.command {
        Command::Check(args) => check::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Crd(args) => crd::run(&args),
        Command::Completion(args) => completion::run(&args),
        Command::Run(args) => on_runtime(run::run(args)),
        Command::Operator(args) => on_runtime(operator::run(args)),
        Command::Plan(args) => on_runtime(plan::run(args)),
        Command::Get(args) => on_runtime(get::run(args)),
        Command::Describe(args) => on_runtime(describe::run(args)),
        Command::Push(args) => on_runtime(push::run(args)),
        Command::Drain(args) => on_runtime(drain::run(args)),
        Command::Executor(args) => executor::run(&args, None),
    })
}

fn finish(done: anyhow::Result<ExitCode>) -> ExitCode {
    done.unwrap_or_else(|error| {
        if is_broken_pipe(&error) {
            return ExitCode::SUCCESS;
        }
        anstream::eprintln!("microscaler: {error:#}");
        ExitCode::FAILURE
    })
}

/// The reader of our output has had enough, as with `| head`.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe))
}

fn on_runtime(verb: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(verb)
}

/// Logs go to stderr, so that stdout is the verb's alone. Only those that run for long say more than warnings by itself.
fn start_logging(cli: &Cli) {
    let quiet = !matches!(cli.command, Command::Run(_) | Command::Operator(_));
    // What goes wrong with Kubernetes is told in words of our own.
    let default = if quiet { "warn" } else { "info,kube_client=error,kube_runtime=error" };
    let filter = cli.log.clone().or_else(|| std::env::var("RUST_LOG").ok()).unwrap_or_else(|| default.to_owned());
    let builder =
        tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(EnvFilter::new(filter)).with_target(false);
    match cli.log_format {
        LogFormat::Json => builder.json().init(),
        LogFormat::Text => {
            let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                && std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(colour).init();
        }
    }
}
