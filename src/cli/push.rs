//! `microscaler push`.

use std::process::ExitCode;

use anyhow::Context;

use super::client::Server;

/// Tell a running Microscaler the value of a metric. It takes effect at once.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  microscaler push default/search waiting 200
  microscaler push search waiting 200          in the namespace default")]
pub struct Args {
    /// The app, as NAMESPACE/APP; without a namespace, `default` is meant.
    #[arg(value_name = "NAMESPACE/APP")]
    app: String,
    /// Name of the metric in the app's demand.
    metric: String,
    /// Its value, 0 or more.
    value: f64,
    #[command(flatten)]
    server: Server,
}

/// Pushes it.
///
/// # Errors
/// When the server is not there or refuses the value.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (namespace, app) = args.app.split_once('/').unwrap_or(("default", &args.app));
    let path = format!("/v1/demand/{namespace}/{app}/{}", args.metric);
    args.server.post(&path, args.value.to_string()).await.with_context(|| format!("{namespace}/{app} {}", args.metric))?;
    Ok(ExitCode::SUCCESS)
}
