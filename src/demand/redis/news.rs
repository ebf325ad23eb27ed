//! What a server tells over a connection without being asked: the newest message of each channel, for all who listen.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::{Msg, PushInfo, PushKind};
use tokio::sync::watch;

/// The newest message of a channel; none before the first.
pub type Message = Option<Arc<[u8]>>;

/// The channels of one connection that somebody listens to.
#[derive(Clone, Default)]
pub struct News(Arc<Mutex<HashMap<String, watch::Sender<Message>>>>);

impl News {
    /// The messages of a channel from now on, and whether it has to be subscribed to first.
    pub fn listen(&self, channel: &str) -> (watch::Receiver<Message>, bool) {
        let mut channels = self.lock();
        let is_new = !channels.contains_key(channel);
        (channels.entry(channel.to_owned()).or_default().subscribe(), is_new)
    }

    /// Forgets a channel, so that it will be subscribed to anew.
    pub fn forget(&self, channel: &str) {
        self.lock().remove(channel);
    }

    /// Forgets the channels that nobody listens to any more.
    pub fn forget_idle(&self) -> Vec<String> {
        self.lock().extract_if(|_, messages| messages.receiver_count() == 0).map(|(channel, _)| channel).collect()
    }

    /// Takes in what came over the connection. When that has ended, so have all channels.
    pub fn take(&self, push: PushInfo) {
        if push.kind == PushKind::Disconnection {
            self.lock().clear();
        } else if let Some(message) = Msg::from_push_info(push)
            && let Some(messages) = self.lock().get(message.get_channel_name())
        {
            messages.send_replace(Some(message.get_payload_bytes().into()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<Message>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use redis::Value;

    use super::*;

    fn message(channel: &str, payload: &str) -> PushInfo {
        let data = [channel, payload].map(|text| Value::BulkString(text.into())).to_vec();
        PushInfo { kind: PushKind::Message, data }
    }

    #[test]
    fn the_newest_message_reaches_all_who_listen() {
        let news = News::default();
        let ((mut first, subscribe), (second, again)) = (news.listen("a"), news.listen("a"));
        assert!(subscribe && !again);
        news.take(message("a", "1"));
        news.take(message("a", "2"));
        news.take(message("b", "3"));
        assert_eq!(first.borrow_and_update().as_deref(), Some(b"2".as_slice()));
        assert!(!first.has_changed().unwrap() && second.has_changed().unwrap());
        let (late, _) = news.listen("a");
        assert!(!late.has_changed().unwrap(), "only what comes from now on");
        assert!(news.forget_idle().is_empty());
        drop((first, second, late));
        assert_eq!(news.forget_idle(), ["a"]);
    }

    #[tokio::test]
    async fn nobody_listens_to_a_connection_that_has_ended() {
        let news = News::default();
        let (mut receiver, _) = news.listen("a");
        news.take(PushInfo { kind: PushKind::Disconnection, data: vec![] });
        assert!(receiver.changed().await.is_err());
        assert!(news.listen("a").1);
    }
}
