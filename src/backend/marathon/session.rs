//! The session with Marathon: attaches to its events, looks now and then who leads, and starts over when anything breaks.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use reqwest::StatusCode;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::client::{Client, ClientError, jittered};
use super::events::{StreamError, events};
use super::machine::Input;
use super::wire::{Event as WireEvent, Info, Leader};
use super::{Event, Link};
use crate::engine::clock;
use crate::engine::leadership::{Leadership, Role};

const SLOW_DELAY: Duration = Duration::from_secs(30);
/// A connection that lived this long was good: the next is made without delay.
const GOOD_AFTER: Duration = Duration::from_mins(1);
/// How often it is asked who leads, and how often in a row there may be no answer.
const PROBE: Duration = Duration::from_secs(5);
const MISSED_PROBES: u32 = 3;

/// Why a connection ended.
enum End {
    Retry(String),
    /// A person has to act, but it may also mend itself.
    Slow(String),
    /// Nobody listens any more.
    Stopped,
}

/// All that a session needs.
pub struct Session {
    pub client: Client,
    pub leadership: Leadership,
    pub inputs: mpsc::Sender<Event>,
}

impl Session {
    /// Runs until nobody listens.
    pub async fn run(mut self) {
        let mut tries = 0;
        for n in 0.. {
            if !self.turn().await {
                return;
            }
            let started = clock::instant();
            let end = self.connection(&self.client.at(n)).await;
            if clock::instant().saturating_duration_since(started) > GOOD_AFTER {
                tries = 0;
            }
            let (input, delay) = match end {
                End::Retry(why) => (Input::Disconnected { why, tries: tries + 1 }, Duration::from_millis(jittered(tries))),
                End::Slow(why) => (Input::Blocked(why), SLOW_DELAY),
                End::Stopped => return,
            };
            tries += 1;
            if !self.tell(input).await {
                return;
            }
            tokio::select! {
                () = sleep(delay) => {}
                () = self.client.secret_changed() => {}
                () = self.inputs.closed() => return,
            }
        }
    }

    /// Waits until this process is the one that acts. False when nobody listens any more.
    async fn turn(&mut self) -> bool {
        while let Role::Standby { leader } = self.leadership.role() {
            if !self.tell(Input::StandingBy(leader.to_string())).await {
                return false;
            }
            tokio::select! {
                () = self.leadership.changed() => {}
                () = self.inputs.closed() => return false,
            }
        }
        !self.inputs.is_closed()
    }

    async fn tell(&self, input: Input) -> bool {
        self.inputs.send(Event { input, link: None }).await.is_ok()
    }

    /// Attaches first, and has all read afterwards: so nothing can happen in between unheard.
    async fn connection(&self, at: &Client) -> End {
        let opened = async {
            let (client, response) = at.attach().await?;
            let info: Info = client.get("v2/info").await?;
            let leader: Leader = client.get("v2/leader").await?;
            Ok((client, response, info, leader.leader))
        };
        match opened.await {
            Ok((client, response, info, leader)) => {
                let link = Link { client: client.clone() };
                let input = Input::Connected { leader: client.base().to_string(), info: Box::new(info) };
                if self.inputs.send(Event { input, link: Some(link) }).await.is_err() {
                    return End::Stopped;
                }
                let events = Box::pin(events(response));
                self.listen(events, &client, &leader).await
            }
            Err(error) => after(&error),
        }
    }

    async fn listen(
        &self,
        mut events: Pin<Box<impl Stream<Item = Result<WireEvent, StreamError>>>>,
        client: &Client,
        leader: &str,
    ) -> End {
        let probe = watch(client, leader);
        tokio::pin!(probe);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => if !self.tell(Input::Wire(event)).await { return End::Stopped },
                    Some(Err(error)) => return End::Retry(error.to_string()),
                    None => return End::Retry("the event stream ended".to_owned()),
                },
                why = &mut probe => return End::Retry(why),
                () = self.inputs.closed() => return End::Stopped,
            }
        }
    }
}

/// Ends when another Marathon leads, or none answers any more: the event stream may not show it.
async fn watch(client: &Client, leader: &str) -> String {
    let mut ticks = interval(PROBE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut missed = 0;
    loop {
        ticks.tick().await;
        match client.get::<Leader>("v2/leader").await {
            Ok(now) if now.leader == leader => missed = 0,
            Ok(now) => return format!("the leader has changed from {leader} to {}", now.leader),
            Err(error) => {
                missed += 1;
                if missed >= MISSED_PROBES {
                    return format!("no leader of Marathon answers: {error}");
                }
            }
        }
    }
}

/// What follows from a failed request.
fn after(error: &ClientError) -> End {
    match error {
        ClientError::Secret(_) | ClientError::Refused { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. } => {
            End::Slow(error.to_string())
        }
        _ => End::Retry(error.to_string()),
    }
}
