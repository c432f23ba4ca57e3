//! RECEIVE, in detail: how much a client may ask for, what becomes of one that goes on, and what is asked of those that nobody
//! knows. The networks of `limits.allow` are asked nothing of this.
//!
//! What is refused here is refused for now (421, 450): the sender keeps its mail and comes back.

use std::net::IpAddr;
use std::time::Duration;

use super::Flow;
use crate::checks::{OverLimit, Standing};
use crate::config::Config;
use crate::mail::{Client, Envelope, Judgement, Reply, ReversePath, SessionId, SpamLevel, Verdict};

/// What becomes of a session after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    None,
    /// A refused recipient is told so only after so long.
    Wait(Duration),
    /// Its client is banned: it ends.
    Close,
}

impl Flow {
    /// Whether a client may open a session now. Those that are banned leave no line in the mail log: they are many, and the ban
    /// itself stands there and in `feedgate ban list`.
    pub fn admit(&self, sid: SessionId, address: IpAddr) -> Result<(), Reply> {
        let config = self.config();
        if config.allows(address) {
            return Ok(());
        }
        if self.checks.limiter.turns_away(address, self.now()) {
            self.maillog.metrics().turned_away();
            tracing::debug!(%sid, client = %address, "turned away: banned");
            return Err(Reply::banned());
        }
        self.checks.limiter.session(&config.limits, address, self.now()).map_err(|over| {
            self.maillog.metrics().limited("session", whose(over));
            let reply = Reply::too_many_connections();
            self.refused_at_door(sid, address, &reply);
            reply
        })
    }

    /// How long a client has to be silent before the banner. Not those that have proved themselves, and not load balancers, which
    /// look whether we are there.
    pub fn silence_asked_of(&self, config: &Config, address: IpAddr) -> Duration {
        let is_balancer = config.smtp.proxy_from.iter().any(|network| network.contains(&address.to_canonical()));
        if is_balancer || config.allows(address) || self.checks.limiter.knows(address, self.now()) {
            return Duration::ZERO;
        }
        config.checks.early_talker_wait
    }

    /// The client did what no mail server does: a fact for the rules, and an error. `how`: the finding's id.
    pub async fn impatient(&self, sid: SessionId, client: &Client, how: &'static str) -> Consequence {
        self.maillog.metrics().impatient(how);
        tracing::debug!(%sid, client = %client.address, how, "spoke out of turn");
        self.misbehaved(sid, client, how).await
    }

    /// One more error of this client; `why`: what it was told.
    pub async fn misbehaved(&self, sid: SessionId, client: &Client, why: &str) -> Consequence {
        let config = self.config();
        if config.allows(client.address) {
            return Consequence::None;
        }
        match self.checks.limiter.error(&config.limits, client.address, why, self.now()).await {
            Standing::Fine => Consequence::None,
            Standing::Tarpit(wait) => Consequence::Wait(wait),
            Standing::Banned(ban) => {
                self.maillog.metrics().banned();
                tracing::warn!(
                    %sid, client = %client.address, until = %ban.until, times = ban.times, why = ban.why,
                    "a client is banned for a while (feedgate ban list)"
                );
                Consequence::Close
            }
        }
    }

    /// Sender: not from a client that was banned meanwhile, and not too many.
    pub(super) fn may_send(&self, client: &Client, from: &ReversePath) -> Result<(), Reply> {
        let config = self.config();
        if config.allows(client.address) {
            return Ok(());
        }
        if self.checks.limiter.is_banned(client.address, self.now()) {
            return Err(Reply::banned());
        }
        let counted = self.checks.limiter.message(&config.limits, client.address, from, self.now());
        counted.map_err(|over| self.too_much("message", over))
    }

    /// Recipient: not too many.
    pub(super) fn within_limits(&self, config: &Config, client: &Client) -> Result<(), Reply> {
        if config.allows(client.address) {
            return Ok(());
        }
        let counted = self.checks.limiter.recipient(&config.limits, client.address, self.now());
        counted.map_err(|over| self.too_much("recipient", over))
    }

    fn too_much(&self, what: &'static str, over: OverLimit) -> Reply {
        self.maillog.metrics().limited(what, whose(over));
        Reply::too_fast()
    }

    /// Judged: who sends what is neither infected nor certainly spam has proved itself.
    pub(super) async fn client_passed(&self, envelope: &Envelope, judgement: &Judgement) {
        if judgement.verdict == Verdict::Clean && judgement.level < SpamLevel::High {
            self.checks.limiter.passed(&self.config().limits, envelope.client.address, self.now()).await;
        }
    }
}

fn whose(over: OverLimit) -> &'static str {
    match over {
        OverLimit::Client => "client",
        OverLimit::Network => "network",
        OverLimit::SenderDomain => "sender-domain",
    }
}
