//! A look at a Marathon and its Mesos, for rehearsals: only reads.

use std::sync::Arc;

use super::SetupError;
use super::client::{Client, ClientError};
use super::machine::{Input, Machine, Request};
use super::wire::Info;
use crate::api::validated::{Pool, RoomOf};
use crate::backend::mesos::agents::Masters;
use crate::policy::world::{Millis, World};
use crate::store::secrets::Secrets;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no Marathon answers: {0}")]
    Unreachable(#[from] ClientError),
    #[error("the agents are not known: {0}")]
    Agents(#[from] crate::backend::mesos::HttpError),
    #[error(transparent)]
    Setup(#[from] SetupError),
}

/// Puts what there is into the world, as an engine that has just begun sees it.
///
/// # Errors
/// When neither address of Marathon answers, or no master, or HTTP cannot be set up.
pub async fn look(pool: &Pool, world: &mut World, now: Millis) -> Result<(), Error> {
    let pool = Arc::new(pool.on_marathon().ok_or(SetupError::NotMarathon)?);
    let secrets = Arc::new(Secrets::in_files());
    let client = Client::new(pool.clone(), secrets.clone())?;
    let mut n = 0;
    let (client, info) = loop {
        let client = client.at(n);
        match client.get::<Info>("v2/info").await {
            Ok(info) => break (client, info),
            Err(_) if n + 1 < pool.marathon.urls.len() => n += 1,
            Err(error) => return Err(error.into()),
        }
    };
    let mut machine = Machine::new(&pool);
    machine.tick(world, now);
    machine.apply(Input::Connected { leader: client.base().to_string(), info: Box::new(info) }, world, now);
    if let RoomOf::Agents(masters) = &pool.room {
        let (framework, role) = machine.framework();
        let agents = Masters::new(pool.key.clone(), masters, secrets).map_err(SetupError::from)?;
        let agents = agents.agents(framework.as_deref(), &role).await?;
        machine.apply(Input::Agents(Ok(agents)), world, now);
    }
    let read = machine.outbox.iter().find(|sent| sent.request == Request::Read).map(|sent| sent.serial);
    let snapshot = client.snapshot().await?;
    machine.apply(Input::Read { serial: read.unwrap_or_default(), result: Ok(snapshot) }, world, now);
    // What comes of it to be asked is for those who act.
    machine.tick(world, now);
    Ok(())
}
