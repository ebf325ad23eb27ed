//! What Marathon's own flags cost, in words, with the values that are recommended.
//!
//! Measured on a Marathon 1.11.26: the interval between revives is the one that costs seconds. Offers are suppressed when there is
//! nothing to launch, and asked for again when there is; both go through one limiter that lets one change pass per interval. The
//! others are of use with many replicas at once. Whether offers are suppressed at all is not told by `/v2/info`.

use super::wire::Config;

/// A revive a second is fast enough not to be told; the recommended value is a tenth of that.
const SLOW_REVIVE_MS: u64 = 1000;
/// With so many replicas per offer, twenty on two agents need no second round.
const FEW_PER_OFFER: u64 = 20;
/// A declined offer is lifted by a revive, which takes two more intervals.
const LONG_DECLINE_MS: u64 = 10_000;

/// What would make starts faster; empty if nothing is known.
pub fn advice(config: &Config) -> String {
    let mut parts = Vec::new();
    if let Some(interval) = config.min_revive_offers_interval.filter(|ms| *ms > SLOW_REVIVE_MS) {
        parts.push(format!(
            "--min_revive_offers_interval is {interval}: a replica may wait so many milliseconds, and twice that after a restart of \
             Marathon, before it is placed; 100 is recommended"
        ));
        if let Some(decline) = config.decline_offer_duration.filter(|ms| *ms > LONG_DECLINE_MS) {
            parts.push(format!("--decline_offer_duration is {decline}: 5000 is recommended as long as revives are slow"));
        }
    }
    if let Some(most) = config.max_instances_per_offer.filter(|most| *most < FEW_PER_OFFER) {
        parts.push(format!(
            "--max_instances_per_offer is {most}: more replicas on one agent wait for another offer; 100 is recommended"
        ));
    }
    if let (Some(tokens), Some(interval)) = (config.launch_token, config.launch_token_refresh_interval)
        && tokens < 100
    {
        parts.push(format!("--launch_tokens is {tokens}: no more start at once, and then in {interval} ms; 1000 is recommended"));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stock_flags_are_slow_and_tuned_ones_are_not() {
        let stock = Config {
            min_revive_offers_interval: Some(5000),
            max_instances_per_offer: Some(5),
            decline_offer_duration: Some(120_000),
            launch_token: Some(100),
            launch_token_refresh_interval: Some(30_000),
            mesos_role: None,
        };
        let said = advice(&stock);
        for flag in
            ["--min_revive_offers_interval is 5000", "--max_instances_per_offer is 5", "--decline_offer_duration is 120000"]
        {
            assert!(said.contains(flag), "{said}");
        }
        assert!(!said.contains("launch_tokens"), "tokens are given back when tasks run: {said}");
        let tuned = Config { min_revive_offers_interval: Some(100), max_instances_per_offer: Some(100), ..stock };
        assert_eq!(advice(&tuned), "");
        assert_eq!(advice(&Config::default()), "", "nothing is known");
    }
}
