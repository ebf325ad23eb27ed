//! Loads that are made: the shapes that autoscalers are known to stumble over.

use std::f64::consts::TAU;

use super::load::{Load, RATE_MS};

/// Requests a second: forty replicas' worth at most, and a fifth of that in calm times.
pub const PEAK: f64 = 400.0;
pub const CALM: f64 = 80.0;
/// Of each of them.
const SECONDS: u64 = 1800;

pub fn all() -> Vec<Load> {
    let made = |name, rate: &dyn Fn(f64) -> f64| Load::new(name, sampled(rate), false);
    vec![
        made("step ×5", &|t| if (300.0..1200.0).contains(&t) { PEAK } else { CALM }),
        made("ramp", &ramp),
        made("square", &|t| if t % 120.0 < 60.0 { CALM } else { PEAK }),
        made("sine", &|t| f64::midpoint(CALM, PEAK) + (PEAK - CALM) / 2.0 * (TAU * t / 300.0).sin()),
        made("flash crowd", &flash_crowd),
        Load::new("noise", noise(7), true),
    ]
}

/// Those of them that come round, and days of five minutes with a small rush and a large one, at about the same time and about as large each
/// day.
pub fn coming_round() -> Vec<Load> {
    let known = all().into_iter().filter(|load| ["square", "sine", "flash crowd"].contains(&load.name));
    known.chain([Load::new("rush hours", rush_hours(9), true)]).collect()
}

fn rush_hours(seed: u64) -> Vec<f64> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let day = |_| {
        let mut rush = |at: f64, size: f64| (at + 4.0 * rng.f64(), size * (0.85 + 0.3 * rng.f64()));
        let rushes = [rush(60.0, 100.0), rush(180.0, 240.0)];
        let of = move |t: f64| move |(from, size): (f64, f64)| if (from..from + 45.0).contains(&t) { size } else { 0.0 };
        (0..300 * 1000 / RATE_MS).map(move |n| CALM + rushes.map(of((n * RATE_MS) as f64 / 1000.0)).iter().sum::<f64>())
    };
    (0..8).flat_map(day).collect()
}

fn sampled(rate: &dyn Fn(f64) -> f64) -> Vec<f64> {
    (0..SECONDS * 1000 / RATE_MS).map(|n| rate((n * RATE_MS) as f64 / 1000.0)).collect()
}

/// Up within ten minutes, and down within five.
fn ramp(t: f64) -> f64 {
    let up = ((t - 300.0) / 600.0).clamp(0.0, 1.0);
    let down = ((t - 1200.0) / 300.0).clamp(0.0, 1.0);
    CALM + (PEAK - CALM) * (up - down)
}

/// Every five minutes, all at once, and half as many every ten seconds from then on.
fn flash_crowd(t: f64) -> f64 {
    if t < 300.0 { CALM } else { CALM + (PEAK - CALM) * 0.5_f64.powf(t % 300.0 / 10.0) }
}

/// A random walk by the second.
fn noise(seed: u64) -> Vec<f64> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut rate: f64 = 200.0;
    let mut next = |n: u64| {
        if n.is_multiple_of(1000 / RATE_MS) {
            rate = (rate + (rng.f64() - 0.5) * 40.0).clamp(CALM, PEAK);
        }
        rate
    };
    (0..SECONDS * 1000 / RATE_MS).map(&mut next).collect()
}

#[cfg(test)]
mod tests {
    use super::super::WARM_UP_MS;
    use super::*;

    fn at(name: &str, seconds: &[u64]) -> Vec<f64> {
        let load = all().into_iter().find(|load| load.name == name).unwrap();
        seconds.iter().map(|s| load.rate(WARM_UP_MS + s * 1000).round()).collect()
    }

    #[test]
    fn their_shapes() {
        assert_eq!(at("step ×5", &[0, 299, 300, 1199, 1200]), [80.0, 80.0, 400.0, 400.0, 80.0]);
        assert_eq!(at("ramp", &[0, 300, 600, 900, 1350, 1500]), [80.0, 80.0, 240.0, 400.0, 240.0, 80.0]);
        assert_eq!(at("square", &[0, 59, 60, 119, 120]), [80.0, 80.0, 400.0, 400.0, 80.0]);
        assert_eq!(at("sine", &[0, 75, 150, 225]), [240.0, 400.0, 240.0, 80.0]);
        assert_eq!(at("flash crowd", &[0, 299, 300, 310, 320, 599]), [80.0, 80.0, 400.0, 240.0, 160.0, 80.0]);
        assert_eq!(at("noise", &[1000]), at("noise", &[1000]));
    }
}
