//! Connections to servers: one for all metrics that are read there with the same credentials, opened when it is needed, and opened anew
//! when it broke or the credentials have changed.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as AsyncMutex, Semaphore};

/// So many questions are on their way to one server at most.
const AT_ONCE: usize = 8;

/// Why a question was not answered, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The server answered that it cannot or will not; the connection is good.
    Answer(String),
    /// The connection is of no more use.
    Connection(String),
}

/// The links to all servers of one kind. `C` is a cheap handle, such as of a multiplexed connection.
#[derive(Debug)]
pub struct Links<C>(Mutex<HashMap<String, Weak<Link<C>>>>);

impl<C> Default for Links<C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<C> Links<C> {
    /// The link that is known under this name, which has to tell the server and what credentials are used there. It lives, and its
    /// connection with it, for as long as somebody holds it.
    pub fn named(&self, name: impl Into<String>) -> Arc<Link<C>> {
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|_, link| link.strong_count() > 0);
        let name = name.into();
        if let Some(link) = links.get(&name).and_then(Weak::upgrade) {
            return link;
        }
        let link = Arc::new(Link::default());
        links.insert(name, Arc::downgrade(&link));
        link
    }
}

/// A connection to a server, whether it is open or not.
#[derive(Debug)]
pub struct Link<C> {
    open: AsyncMutex<Option<Open<C>>>,
    turns: Semaphore,
    /// Connections up to this number are of no more use.
    broken: AtomicU64,
}

#[derive(Clone, Debug)]
struct Open<C> {
    connection: C,
    number: u64,
    credentials: u64,
}

impl<C> Default for Link<C> {
    fn default() -> Self {
        Self { open: AsyncMutex::new(None), turns: Semaphore::new(AT_ONCE), broken: AtomicU64::new(0) }
    }
}

/// A question on its way. If it is given up before there is an answer, nothing is known of the connection, and the next question gets a new one.
struct Way<'a> {
    broken: &'a AtomicU64,
    number: u64,
}

impl Drop for Way<'_> {
    fn drop(&mut self) {
        self.broken.fetch_max(self.number, Ordering::AcqRel);
    }
}

impl<C: Clone> Link<C> {
    /// Asks over the connection, which is opened first if there is none, or none with these credentials. If an old one turns out to be
    /// broken, as after a restart of the server, the question is asked once more over a new one. Cancel-safe.
    ///
    /// # Errors
    /// What `connect` or `question` say.
    pub async fn ask<T, Connecting, Asking>(
        &self,
        credentials: &impl Hash,
        connect: impl Fn() -> Connecting,
        question: impl Fn(C) -> Asking,
    ) -> Result<T, String>
    where
        Connecting: Future<Output = Result<C, String>>,
        Asking: Future<Output = Result<T, Trouble>>,
    {
        let credentials = fingerprint(credentials);
        // Never closed.
        let _turn = self.turns.acquire().await;
        loop {
            let (open, is_new) = self.opened(credentials, &connect).await?;
            let way = Way { broken: &self.broken, number: open.number };
            match question(open.connection).await {
                Err(Trouble::Connection(why)) if is_new => return Err(why),
                Err(Trouble::Connection(_)) => drop(way),
                Err(Trouble::Answer(why)) => {
                    std::mem::forget(way);
                    return Err(why);
                }
                Ok(answer) => {
                    std::mem::forget(way);
                    return Ok(answer);
                }
            }
        }
    }

    /// The connection, and whether it was opened just now.
    async fn opened<Connecting>(&self, credentials: u64, connect: impl Fn() -> Connecting) -> Result<(Open<C>, bool), String>
    where
        Connecting: Future<Output = Result<C, String>>,
    {
        let mut open = self.open.lock().await;
        let good = |open: &&Open<C>| open.credentials == credentials && open.number > self.broken.load(Ordering::Acquire);
        if let Some(open) = open.as_ref().filter(good) {
            return Ok((open.clone(), false));
        }
        // Its number may not come again.
        if let Some(old) = open.take() {
            self.broken.fetch_max(old.number, Ordering::AcqRel);
        }
        let connection = connect().await?;
        let number = self.broken.load(Ordering::Acquire) + 1;
        let new = Open { connection, number, credentials };
        *open = Some(new.clone());
        Ok((new, true))
    }
}

/// Tells whether credentials are still the same, without keeping them.
fn fingerprint(credentials: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    credentials.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn one_connection_serves_until_it_breaks_or_the_credentials_change() {
        let (link, opened) = (Link::default(), Cell::new(0));
        let connect = || {
            opened.set(opened.get() + 1);
            std::future::ready(Ok(opened.get()))
        };
        let ask = async |credentials: &str, broken: i32| {
            let question =
                |number| async move { if number == broken { Err(Trouble::Connection("reset".to_owned())) } else { Ok(number) } };
            link.ask(&credentials, connect, question).await
        };
        assert_eq!(ask("a", 0).await, Ok(1));
        assert_eq!(ask("a", 0).await, Ok(1));
        assert_eq!(ask("b", 0).await, Ok(2), "other credentials");
        assert_eq!(ask("b", 2).await, Ok(3), "the old one broke");
        assert_eq!(ask("c", 4).await, Err("reset".to_owned()), "a new one is not tried twice");
        assert_eq!(ask("c", 0).await, Ok(5));
        let refused = link.ask(&"c", connect, |_| async { Err::<(), _>(Trouble::Answer("no such queue".to_owned())) }).await;
        assert_eq!(refused, Err("no such queue".to_owned()));
        assert_eq!(ask("c", 0).await, Ok(5), "an answer says that the connection is good");
    }

    #[tokio::test]
    async fn a_question_that_is_given_up_costs_the_connection() {
        let (link, opened) = (Link::default(), Cell::new(0));
        let connect = || {
            opened.set(opened.get() + 1);
            std::future::ready(Ok(opened.get()))
        };
        let mut silent = Box::pin(link.ask(&(), connect, |_| std::future::pending::<Result<i32, Trouble>>()));
        assert!(futures::poll!(silent.as_mut()).is_pending());
        drop(silent);
        assert_eq!(link.ask(&(), connect, |number| async move { Ok(number) }).await, Ok(2));
    }

    #[test]
    fn links_are_shared_while_they_are_used() {
        let links = Links::<i32>::default();
        let (a, again, b) = (links.named("a"), links.named("a"), links.named("b"));
        assert!(Arc::ptr_eq(&a, &again) && !Arc::ptr_eq(&a, &b));
        drop((a, again));
        links.named("c");
        assert!(!links.0.lock().unwrap().contains_key("a"));
    }
}
