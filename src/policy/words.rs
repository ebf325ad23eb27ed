//! Reasons in the words that users read.

use std::fmt;

use super::plan::{By, Reason, Unknown};
use super::resources::Resources;
use crate::api::status::DemandState;

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LastMax { window_ms } => write!(f, "the most of its last {}", Time(*window_ms)),
            Self::Metric(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Reason {
    #[allow(clippy::too_many_lines, reason = "one line or two for each reason")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = |up: bool| if up { "growth" } else { "shrinking" };
        match self {
            Self::Metric { name, value, target, replicas } => {
                write!(f, "{name} {} / {} = {}", Amount(*value), Amount(*target), Count(*replicas, "replica"))
            }
            Self::Queue { name, waiting, arrivals, service, max_ms, replicas } => {
                let (waiting, arrivals, service) = (Amount(*waiting), Rate(*arrivals), Rate(*service));
                write!(f, "{name} {waiting} waiting, about {arrivals} arrive and a replica does {service} a second, ")?;
                write!(f, "{} for a wait of at most {}", Count(*replicas, "replica"), Time(*max_ms))
            }
            Self::QueueLength { name, length, target, replicas } => {
                write!(f, "{name} {} for a length of {}: {}", Amount(*length), Amount(*target), Count(*replicas, "replica"))
            }
            Self::Foreseen { name, value, in_ms, replicas } => {
                let replicas = Count(*replicas, "replica");
                write!(f, "{name} is expected to reach {} in {}: {replicas}", Amount(*value), Time(*in_ms))
            }
            Self::Formula { replicas } => write!(f, "by the formula {}", Count(*replicas, "replica")),
            Self::NoFormula { why, holding } => write!(f, "the formula has no result ({why}): holding {holding}"),
            Self::Bounded { name, asked, replicas, from_above } => {
                let word = if *from_above { "cap" } else { "floor" };
                write!(f, "{asked} asked for, {name} is a {word} of {replicas}")
            }
            Self::Vetoed { name, asked } => write!(f, "{asked} asked for, nothing is given up because of {name}"),
            Self::FixedReplicas(n) => write!(f, "{} as set", Count(*n, "replica")),
            Self::Remainder { spare } => write!(f, "{} in spare room", Count(*spare, "replica")),
            Self::AtMinimum(min) => write!(f, "at its minimum of {min}"),
            Self::AtMaximum { max, asked } => write!(f, "{asked} asked for, held at its maximum of {max}"),
            Self::WithinTolerance { name } => write!(f, "{name} is within tolerance of its target"),
            Self::Stabilized { asked, window_ms, up } => {
                write!(f, "{asked} asked for, {} held by a stabilization window of {}", way(*up), Time(*window_ms))
            }
            Self::Burst { asked, keeping, over } => {
                write!(f, "{asked} asked for, {keeping} kept {} a burst", if *over { "in" } else { "after" })
            }
            Self::RateLimited { asked, up } => write!(f, "{asked} asked for, {} limited by its policies", way(*up)),
            Self::Disabled { asked, up } => write!(f, "{asked} asked for, {} is disabled", way(*up)),
            Self::Scheduled { name, replicas } => write!(f, "{} by schedule {name}", Count(*replicas, "replica")),
            Self::Weighed { name, factor } => write!(f, "demand counts {} times by schedule {name}", Amount(*factor)),
            Self::OutsideWindow { name } => write!(f, "{name} is outside its window"),
            Self::NoData { name, state, why, holding } => {
                let state = if *state == DemandState::Failed { "failed" } else { "is stale" };
                write!(f, "metric {name} {state} ({why}): holding {holding}")
            }
            Self::Fallback { name, replicas } => {
                write!(f, "metric {name} has no value: falling back to {}", Count(*replicas, "replica"))
            }
            Self::StandsIn { name, by, replicas } => {
                write!(f, "metric {name} has no value: {by} stands in with {}", Count(*replicas, "replica"))
            }
            Self::PoolFull { wanted, granted, some_agents, priorities: (first, last), held_above, all } => {
                let full = if *some_agents { "the agents that it may use are full" } else { "pool full" };
                write!(f, "{wanted} wanted, {granted} granted: {full}, ")?;
                write!(f, "priority {first}")?;
                if first != last {
                    write!(f, " to {last}")?;
                }
                write!(f, " apps hold {held_above} of {}", Count(*all, "task"))
            }
            Self::FreedInVain { retry_in_ms } => {
                write!(f, "freed room went to others; next try in {}", Time(*retry_in_ms))
            }
            Self::OthersProtected { for_ms } => {
                write!(f, "what is less important there is protected, some of it for {} more", Time(*for_ms))
            }
            Self::BudgetSpent { for_ms } => {
                write!(f, "enough has given way of late (preemptionBudget), the next may in {}", Time(*for_ms))
            }
            Self::OthersUnavailable => f.write_str("what is less important there keeps to its maxUnavailable"),
            Self::BudgetHolds => f.write_str("the rollout waits, as maxUnavailable allows no more"),
            Self::MinimumWaits { min, granted } => {
                write!(f, "{granted} of its minimum of {min}: a minimum takes no room from what is more important and runs")
            }
            Self::AtLimits { limits } => write!(f, "the pool's limits are reached ({})", Limits(*limits)),
            Self::Moving { replicas, stuck } => {
                let stuck = if *stuck { ", but there is no room elsewhere" } else { "" };
                write!(f, "{} to move off hosts that are due for maintenance{stuck}", Count(*replicas, "replica"))
            }
            Self::NoAgentMatches => f.write_str("no agent meets the conditions of its placement"),
            Self::AgentsBarred { agents } => {
                write!(f, "its replicas have failed too often on {}, which are not tried for a while", Count(*agents, "agent"))
            }
            Self::NoAgentLargeEnough { size, executor } => {
                write!(f, "no agent is large enough for {size}")?;
                executor.map_or(Ok(()), |executor| write!(f, " and its executor ({executor})"))
            }
            Self::NoAgents => f.write_str("no agents are known yet"),
            Self::GivesWay { to, replicas } => write!(f, "gives way to {} with {}", to.name(), Count(*replicas, "replica")),
            Self::WaitsForRoom { replicas: 1 } => f.write_str("1 replica waits for room"),
            Self::WaitsForRoom { replicas } => write!(f, "{replicas} replicas wait for room"),
            Self::Crashing { failures, version, last, retry_in_ms } => {
                write!(f, "template {version} failed {} ({last}), ", Count(*failures, "time"))?;
                if *retry_in_ms == 0 { f.write_str("trying again now") } else { write!(f, "next try in {}", Time(*retry_in_ms)) }
            }
            Self::ExecutorsFail { agents, last, retry_in_ms } => {
                write!(f, "executors do not start on {} ({last}), next try in {}", Count(*agents, "agent"), Time(*retry_in_ms))
            }
            Self::ExecutorsLeave => f.write_str("waits until its executors have ended that nobody wanted any more"),
            Self::RollingOut { old, new } => write!(f, "rolling out: {new} new, {old} old"),
            Self::Unreachable { replicas } => write!(f, "{} unreachable", Count(*replicas, "replica")),
            Self::Suspended { at } => write!(f, "suspended at {}", Count(*at, "replica")),
            Self::ObserveOnly => f.write_str("observed only, nothing is done"),
            Self::Deleted => f.write_str("deleted, its tasks end"),
        }
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failure) => f.write_str(failure),
            Self::Nonsense(value) => write!(f, "{value} is no amount"),
            Self::SilentFor { seconds } => write!(f, "no value for {seconds} s"),
            Self::NoValueYet => f.write_str("no value yet"),
        }
    }
}

/// A count with its noun.
struct Count<N>(N, &'static str);

impl<N: fmt::Display + PartialEq + From<u8>> fmt::Display for Count<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0 == N::from(1) { "" } else { "s" };
        write!(f, "{} {}{plural}", self.0, self.1)
    }
}

/// A value with at most three decimals.
struct Amount(f64);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.3}", self.0);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// An estimate, in two digits.
struct Rate(f64);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.0 >= 10.0 {
            0
        } else if self.0 >= 1.0 {
            1
        } else {
            2
        };
        write!(f, "{:.digits$}", self.0)
    }
}

/// Milliseconds in a fitting unit.
struct Time(u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms if ms < 1000 => write!(f, "{ms} ms"),
            ms if ms < 10_000 && ms % 1000 != 0 => write!(f, "{}.{} s", ms / 1000, ms % 1000 / 100),
            ms => write!(f, "{} s", ms / 1000),
        }
    }
}

/// Limits, without those that are none.
struct Limits(Resources);

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Resources { cpu, memory, disk, gpu, .. } = self.0;
        let none = Resources::UNLIMITED.cpu;
        let named = [("cpu", cpu, 1000, ""), ("memory", memory, 1000, "Mi"), ("disk", disk, 1000, "Mi"), ("gpu", gpu, 1, "")];
        let mut separator = "";
        for (name, amount, unit, suffix) in named.into_iter().filter(|(_, amount, ..)| *amount < none) {
            #[allow(clippy::cast_precision_loss)]
            let amount = Amount(amount as f64 / f64::from(unit));
            write!(f, "{separator}{name} {amount}{suffix}")?;
            separator = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_what_people_would_say() {
        let name: std::sync::Arc<str> = "waiting".into();
        let full = Reason::PoolFull { wanted: 15, granted: 9, some_agents: false, priorities: (1, 1), held_above: 30, all: 40 };
        assert_eq!(full.to_string(), "15 wanted, 9 granted: pool full, priority 1 apps hold 30 of 40 tasks");
        let metric = Reason::Metric { name: name.clone(), value: 200.0, target: 10.0, replicas: 20 };
        assert_eq!(metric.to_string(), "waiting 200 / 10 = 20 replicas");
        let stale = Reason::NoData { name, state: DemandState::Stale, why: Unknown::SilentFor { seconds: 62 }, holding: 12 };
        assert_eq!(stale.to_string(), "metric waiting is stale (no value for 62 s): holding 12");
        let vain = Reason::FreedInVain { retry_in_ms: 12_000 };
        assert_eq!(vain.to_string(), "freed room went to others; next try in 12 s");
        let window = Reason::Stabilized { asked: 3, window_ms: 2500, up: false };
        assert_eq!(window.to_string(), "3 asked for, shrinking held by a stabilization window of 2.5 s");
        let limits = Resources { cpu: 24_500, ..Resources::UNLIMITED };
        assert_eq!(Reason::AtLimits { limits }.to_string(), "the pool's limits are reached (cpu 24.5)");
    }
}
