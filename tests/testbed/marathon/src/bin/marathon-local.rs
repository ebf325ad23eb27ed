//! `marathon-local`: a small Marathon on a Mesos that runs already.

use anyhow::Result;
use microscaler_testbed_marathon::{Settings, run};

const USAGE: &str = "\
Starts a server that behaves as Marathon 1.11.26 does, on a Mesos that runs
already, and ends on Ctrl-C (or SIGTERM). Tasks outlive it.

usage: marathon-local --master HOST:PORT[,HOST:PORT…] [FLAG…]
  --http_port N                            8080 if not given
  --testbed_state DIR                      what stands for ZooKeeper: processes
                                           that share it are one Marathon
Flags of Marathon's own, with its defaults:
  --framework_name NAME                    marathon
  --http_credentials USER:PASSWORD
  --min_revive_offers_interval MS          5000
  --disable_suppress_offers
  --decline_offer_duration MS              120000
  --max_instances_per_offer N              5
  --offer_matching_timeout MS              3000
  --launch_tokens N                        100
  --launch_token_refresh_interval MS       30000
  --scale_apps_initial_delay MS            15000
  --scale_apps_interval MS                 300000
  --kill_retry_timeout MS                  30000
  --max_running_deployments N              100
  --zk_session_timeout MS                  10000
What is Marathon's nature, and can be changed here:
  --testbed_persistence_delay MS           30, of each update
  --testbed_scheduling_delay MS            5, of each new instance
  --testbed_memory_instances N             1000000 in one app end the process …
  --testbed_memory_delay MS                20000 … after that
  --testbed_heartbeat_interval MS          10000, of event streams
  --testbed_event_buffer N                 1024 events, then the stream is dropped
  --testbed_idle_timeout MS                30000, of connections
";

fn main() -> Result<()> {
    if std::env::args().skip(1).any(|argument| matches!(argument.as_str(), "-h" | "--help")) {
        print!("{USAGE}");
        return Ok(());
    }
    run(Settings::parse(std::env::args().skip(1))?)
}
