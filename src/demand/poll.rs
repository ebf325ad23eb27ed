//! The rhythm of sources that have to be asked: interval with jitter, timeout, back-off, one question at a time.

use std::time::Duration;

use tokio::time::{sleep, sleep_until, timeout, timeout_at};

use super::board::amount;
use super::{DemandSource, Gauge};
use crate::api::demand::Polling;

/// A source that keeps failing is asked no less often than this, unless its own interval is longer.
const SLOWEST: Duration = Duration::from_secs(30);
/// How much longer each further interval is while the value stays what it is.
const CALMING: f64 = 1.25;
/// However often a server tells of changes, it is asked no more often than it may be polled.
const FASTEST: Duration = Duration::from_millis(10);

/// Something that can be asked for the value of one metric.
pub trait Query: Send + Sync + 'static {
    /// The value now. Given up, by being dropped, when it takes too long.
    ///
    /// # Errors
    /// In words that people read.
    fn ask(&self) -> impl Future<Output = Result<f64, String>> + Send;

    /// Returns when there may be another value than the last answer's, where the server can tell that. It is asked at once then. Cancel-safe.
    fn changed(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// How often to ask, and for how long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// From the start of one question to the start of the next, while the value moves.
    pub every: Duration,
    /// The same at rest.
    pub calm: Duration,
    /// An answer that takes longer has failed.
    pub timeout: Duration,
}

impl From<&Polling> for Rhythm {
    fn from(polling: &Polling) -> Self {
        let ms = |n: i64| Duration::from_millis(u64::try_from(n).unwrap_or(0).max(1));
        Self { every: ms(polling.poll_milliseconds), calm: ms(polling.slowest_ms()), timeout: ms(polling.timeout_milliseconds) }
    }
}

/// A source that is asked for ever. The next question waits for the answer to the last. While the value stays the same, the interval
/// grows to its calm length; after a failure it doubles, up to 30 s. The first other value restores it.
pub struct Polled<Q> {
    pub rhythm: Rhythm,
    pub query: Q,
}

impl<Q: Query> DemandSource for Polled<Q> {
    async fn run(self, gauge: Gauge) {
        let Self { rhythm, query } = self;
        let mut pace = Pace::of(rhythm);
        loop {
            // Its deadline is now.
            let begun = sleep(Duration::ZERO).deadline();
            let answer = timeout(rhythm.timeout, query.ask()).await;
            let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {} ms", rhythm.timeout.as_millis())));
            match answer.and_then(amount) {
                Ok(value) => {
                    gauge.value(value);
                    let next = begun + jittered(pace.value(value), fastrand::f64());
                    if timeout_at(next, query.changed()).await.is_ok() {
                        sleep_until(begun + FASTEST).await;
                    }
                }
                Err(why) => {
                    gauge.failure(why);
                    sleep(jittered(pace.failure(), fastrand::f64())).await;
                }
            }
        }
    }
}

/// How long to wait, by what has come.
struct Pace {
    rhythm: Rhythm,
    last: Option<f64>,
    interval: Duration,
    failures: u32,
}

impl Pace {
    fn of(rhythm: Rhythm) -> Self {
        Self { rhythm, last: None, interval: rhythm.every, failures: 0 }
    }

    #[allow(clippy::float_cmp)]
    fn value(&mut self, value: f64) -> Duration {
        let same = self.last.replace(value) == Some(value) && self.failures == 0;
        self.failures = 0;
        self.interval = if same { self.interval.mul_f64(CALMING).min(self.rhythm.calm) } else { self.rhythm.every };
        self.interval
    }

    fn failure(&mut self) -> Duration {
        self.failures += 1;
        backed_off(self.rhythm.every, self.failures)
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

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn fast_while_it_moves_slow_while_it_is_calm() {
        let mut pace = Pace::of(Rhythm { every: MS(100), calm: MS(150), timeout: MS(1) });
        let values = [1.0, 2.0, 2.0, 2.0, 2.0, 3.0];
        assert_eq!(values.map(|value| pace.value(value).as_millis()), [100, 100, 125, 150, 150, 100]);
        assert_eq!(pace.failure(), MS(200));
        assert_eq!(pace.failure(), MS(400));
        assert_eq!(pace.value(3.0), MS(100));
    }

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
