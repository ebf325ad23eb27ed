//! The rhythm of sources that have to be asked: interval with jitter, timeout, back-off, one question at a time.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Gauge;
use super::board::amount;

/// A source that keeps failing is asked no less often than this, unless its own interval is longer.
const SLOWEST: Duration = Duration::from_secs(30);

/// How often to ask, and for how long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// From the start of one question to the start of the next.
    pub every: Duration,
    /// An answer that takes longer has failed.
    pub timeout: Duration,
}

/// Asks for ever and posts what comes. The next question waits for the answer to the last; after a failure the interval doubles, up
/// to 30 s, and the first success restores it.
pub async fn poll<F>(rhythm: Rhythm, gauge: Gauge, mut ask: impl FnMut() -> F + Send)
where
    F: Future<Output = Result<f64, String>> + Send,
{
    let mut failures = 0;
    loop {
        let next = sleep(jittered(rhythm.every, fastrand::f64()));
        let answer = timeout(rhythm.timeout, ask()).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {} ms", rhythm.timeout.as_millis())));
        match answer.and_then(amount) {
            Ok(value) => {
                failures = 0;
                gauge.value(value);
                next.await;
            }
            Err(why) => {
                failures += 1;
                gauge.failure(why);
                sleep(jittered(backed_off(rhythm.every, failures), fastrand::f64())).await;
            }
        }
    }
}

/// Up to a tenth shorter or longer, so that many sources do not ask in step.
fn jittered(interval: Duration, random: f64) -> Duration {
    interval.mul_f64(0.9 + 0.2 * random)
}

fn backed_off(interval: Duration, failures: u32) -> Duration {
    let factor = 2_u32.saturating_pow(failures);
    interval.saturating_mul(factor).min(SLOWEST).max(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_double_the_interval_up_to_half_a_minute() {
        let ms = Duration::from_millis;
        assert_eq!(backed_off(ms(250), 1), ms(500));
        assert_eq!(backed_off(ms(250), 3), ms(2000));
        assert_eq!(backed_off(ms(250), 40), SLOWEST);
        assert_eq!(backed_off(ms(60_000), 2), ms(60_000));
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        let second = Duration::from_secs(1);
        assert_eq!(jittered(second, 0.0), Duration::from_millis(900));
        assert_eq!(jittered(second, 0.5), second);
        assert_eq!(jittered(second, 1.0), Duration::from_millis(1100));
    }
}
