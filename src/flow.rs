//! The path of a message, from top to bottom. (skeleton: the signatures the session driver uses)

use std::net::IpAddr;
use std::sync::Arc;

use crate::config::Config;
use crate::mail::{Client, Envelope, MailParameters, Recipient, Reply, ReversePath, SessionId, Timestamp};
use crate::smtp::Incoming;
use crate::store::{BodyWriter, ReceivedBody};

/// Everything the path needs, wired once by the daemon. Cloned as `Arc<Flow>`.
pub struct Flow {}

impl Flow {
    /// The settings in force; a session takes them once at its start.
    pub fn config(&self) -> Arc<Config> {
        todo!()
    }

    /// The time of day, by the clock the flow was wired with.
    pub fn now(&self) -> Timestamp {
        todo!()
    }

    /// RECEIVE, connected: who is it (reverse name). `protocol` Smtp, `helo` empty, no TLS: the driver fills those in later.
    pub async fn connected(&self, sid: SessionId, address: IpAddr) -> Client {
        let _ = (sid, address);
        todo!()
    }

    /// RECEIVE, sender: may it begin? A positive reply is `250 2.1.0`. Refusals are logged here.
    pub async fn sender(
        &self,
        sid: SessionId,
        client: &Client,
        reverse_path: &ReversePath,
        parameters: &MailParameters,
    ) -> Reply {
        let _ = (sid, client, reverse_path, parameters);
        todo!()
    }

    /// RECEIVE, recipient: served here, and not greylisted. Refusals are logged here.
    pub async fn recipient(
        &self,
        sid: SessionId,
        client: &Client,
        reverse_path: &ReversePath,
        incoming: Incoming,
    ) -> Result<Recipient, Reply> {
        let _ = (sid, client, reverse_path, incoming);
        todo!()
    }

    /// RECEIVE, content: where it is written while it arrives.
    pub fn receive(&self) -> BodyWriter {
        todo!()
    }

    /// A text that was refused while it was read, or a session that was refused at the door: logged, nothing kept.
    pub fn refused(
        &self,
        sid: SessionId,
        client: &Client,
        stage: &'static str,
        reverse_path: Option<&ReversePath>,
        reply: &Reply,
    ) {
        let _ = (sid, client, stage, reverse_path, reply);
        todo!()
    }

    /// RECEIVE, committed, and JUDGE as far as it comes in time: the reply to the end of data.
    pub async fn content(&self, envelope: Envelope, body: ReceivedBody) -> Reply {
        let _ = (envelope, body);
        todo!()
    }
}
