//! What has to be answered: requests a second over time, and how many replicas that takes.

use super::{BOUND_MS, SERVICE_RATE, START_MS, STEP_MS, WARM_UP_MS};

/// One rate for so long.
pub const RATE_MS: u64 = 100;
/// With random arrivals, so many requests may wait longer than the bound.
const EXCEPT: f64 = 0.01;

/// Requests to the service of priority 1.
#[derive(Clone, Debug)]
pub struct Load {
    pub name: &'static str,
    /// Requests a second, every [`RATE_MS`]; the first one also holds while it warms up.
    rates: Vec<f64>,
    /// The least replicas that keep the bound, alike.
    demands: Vec<i64>,
    /// Arrivals are a Poisson process; otherwise even.
    pub is_random: bool,
    /// From launch to running.
    pub start_ms: u64,
}

impl Load {
    pub fn new(name: &'static str, rates: Vec<f64>, is_random: bool) -> Self {
        let demands = rates.iter().map(|rate| if is_random { for_random(*rate) } else { for_even(*rate) }.max(1)).collect();
        Self { name, rates, demands, is_random, start_ms: START_MS }
    }

    /// The same with replicas that take so long to start.
    pub fn with_starts_of(self, start_ms: u64) -> Self {
        Self { start_ms, ..self }
    }

    pub fn duration_ms(&self) -> u64 {
        WARM_UP_MS + self.rates.len() as u64 * RATE_MS
    }

    fn place(&self, at: u64) -> usize {
        ((at.saturating_sub(WARM_UP_MS) / RATE_MS) as usize).min(self.rates.len() - 1)
    }

    pub fn rate(&self, at: u64) -> f64 {
        self.rates[self.place(at)]
    }

    pub fn demand(&self, at: u64) -> i64 {
        self.demands[self.place(at)]
    }

    /// The most from now until then.
    pub fn demand_until(&self, at: u64, then: u64) -> i64 {
        self.demands[self.place(at)..=self.place(then)].iter().copied().max().unwrap_or(0)
    }
}

fn for_even(rate: f64) -> i64 {
    (rate / SERVICE_RATE - 1e-9).ceil() as i64
}

/// The least n with P(wait > bound) ≤ 1 % by Erlang's C formula: B₀ = 1, Bₖ = R·Bₖ₋₁/(k + R·Bₖ₋₁), C = Bₙ/(1 − (R/n)(1 − Bₙ)),
/// P = C·e^−(nμ−λ)t, with R = λ/μ.
fn for_random(rate: f64) -> i64 {
    let offered = rate / SERVICE_RATE;
    let mut blocked = 1.0;
    for n in 1.. {
        let servers = f64::from(n);
        blocked = offered * blocked / (servers + offered * blocked);
        if servers > offered {
            let waits = blocked / (1.0 - offered / servers * (1.0 - blocked));
            let too_long = waits * (-(servers * SERVICE_RATE - rate) * BOUND_MS as f64 / 1000.0).exp();
            if too_long <= EXCEPT {
                return i64::from(n);
            }
        }
    }
    unreachable!("some number of servers is enough")
}

/// Requests as they arrive, step by step.
pub struct Arrivals {
    rng: fastrand::Rng,
    due: f64,
}

impl Arrivals {
    pub fn new(seed: u64) -> Self {
        Self { rng: fastrand::Rng::with_seed(seed), due: 0.0 }
    }

    /// In the step that begins at this moment.
    pub fn next(&mut self, load: &Load, at: u64) -> u64 {
        let mean = load.rate(at) * STEP_MS as f64 / 1000.0;
        if load.is_random {
            return self.poisson(mean);
        }
        self.due += mean;
        let whole = (self.due + 1e-9).floor();
        self.due -= whole;
        whole as u64
    }

    /// Knuth's method: good for small means.
    fn poisson(&mut self, mean: f64) -> u64 {
        let limit = (-mean).exp();
        let mut product = self.rng.f64();
        let mut count = 0;
        while product > limit {
            product *= self.rng.f64();
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived(load: &Load, seed: u64) -> u64 {
        let mut arrivals = Arrivals::new(seed);
        (0..load.duration_ms() / STEP_MS).map(|step| arrivals.next(load, step * STEP_MS)).sum()
    }

    #[test]
    fn even_arrivals_add_up() {
        let load = Load::new("a", vec![33.0; 600], false);
        assert_eq!(arrived(&load, 1), 33 * 180);
        assert_eq!([load.demand(0), load.demand(load.duration_ms())], [4, 4]);
    }

    #[test]
    fn random_arrivals_have_their_mean_and_their_seed() {
        let load = Load::new("a", vec![200.0; 600], true);
        let (count, again, other) = (arrived(&load, 1), arrived(&load, 1), arrived(&load, 2));
        // 36,000 ± 4 standard deviations.
        assert!((35_240..36_760).contains(&count) && count == again && count != other, "{count} {again} {other}");
    }

    /// Of one server, C = R and P(wait > t) = R·e^−(μ−λ)t.
    #[test]
    fn erlang_c_of_one_server() {
        let wait_1_percent = |rate: f64| rate / SERVICE_RATE * (-(SERVICE_RATE - rate) * 0.5).exp();
        assert!(wait_1_percent(2.0) < EXCEPT && for_random(2.0) == 1);
        assert!(wait_1_percent(4.0) > EXCEPT && for_random(4.0) == 2);
    }

    /// Two Erlang on three servers: C = 4/9 (any table of Erlang's C). So P(wait > 0.5 s) = 4/9·e^−5 = 0.3 %.
    #[test]
    fn erlang_c_of_several_servers() {
        assert_eq!((for_random(20.0), for_random(0.0)), (3, 1));
    }

    #[test]
    fn the_most_until_then() {
        let load = Load::new("a", vec![10.0, 50.0, 20.0], false);
        let until = |from, to| load.demand_until(WARM_UP_MS + from, WARM_UP_MS + to);
        assert_eq!([until(0, 99), until(0, 100), until(250, 900)], [1, 5, 2]);
    }
}
