//! How a client behaves, whatever it says: whether it waits for its turn, what its errors cost it, and for whom it speaks.
//!
//! What a client is found out to do here is a fact for the spam rules and an error of its address; nobody is refused for it.

use super::wire::Ended;
use super::{Driver, stopping};
use crate::flow::Consequence;
use crate::mail::{Client, Finding, Reply};
use crate::smtp::{Claims, Step};

/// It spoke before the banner.
const EARLY_TALKER: &str = "early-talker";
/// It sent several commands at a time before that was offered, or after HELO, which offers nothing.
pub(super) const PIPELINING: &str = "pipelining";
/// So much of what was said too early is kept as evidence.
const EVIDENCE_MAX: usize = 40;

impl Driver {
    /// RFC 5321 §4.3.1: a client waits for the greeting. What one says before is kept and read after it.
    pub(super) async fn wait_for_silence(&mut self) -> Result<(), Ended> {
        let wait = self.flow.silence_asked_of(&self.config, self.client.address);
        if wait.is_zero() {
            return Ok(());
        }
        let over = self.flow.clock.sleep_until(self.flow.now() + wait);
        tokio::select! {
            biased;
            () = stopping(&mut self.stop) => return Err(Ended::Stopping),
            heard = self.wire.hear() => heard?,
            () = over => return Ok(()),
        }
        self.spoke_out_of_turn(EARLY_TALKER).await
    }

    /// Noted once in a session.
    pub(super) async fn spoke_out_of_turn(&mut self, how: &'static str) -> Result<(), Ended> {
        if self.client.findings.iter().any(|finding| finding.id == how) {
            return Ok(());
        }
        let said = &self.wire.input[..self.wire.input.len().min(EVIDENCE_MAX)];
        self.client.findings.push(Finding::new(how, &said.escape_ascii().to_string()));
        match self.flow.impatient(self.session.id(), &self.client, how).await {
            Consequence::None | Consequence::Wait(_) => Ok(()),
            Consequence::Close => Err(Ended::Closed(Reply::banned())),
        }
    }

    /// A command was refused for good. In the tarpit a client that asks for recipients that do not exist waits for each answer;
    /// the session holds nothing but its place meanwhile.
    pub(super) async fn answer_for_error(&mut self, said: &Step, asks_for_recipient: bool) -> Result<(), Ended> {
        self.errors_counted = self.session.errors();
        let why = match said {
            Step::Reply(reply) | Step::Close(reply) => reply.to_string(),
            _ => String::new(),
        };
        match self.flow.misbehaved(self.session.id(), &self.client, &why).await {
            Consequence::None => Ok(()),
            Consequence::Close => Err(Ended::Closed(Reply::banned())),
            Consequence::Wait(wait) => {
                if asks_for_recipient && !wait.is_zero() {
                    self.flow.maillog.metrics().tarpitted();
                    let over = self.flow.clock.sleep_until(self.flow.now() + wait);
                    tokio::select! {
                        () = stopping(&mut self.stop) => {}
                        () = over => {}
                    }
                }
                Ok(())
            }
        }
    }

    /// XCLIENT: from here on this is a session of the client that was named, from its beginning. That one has to be welcome, too.
    /// The connection, its encryption and what is allowed on it stay those of the client that is really there.
    pub(super) async fn speak_for(&mut self, claims: Claims) -> Step {
        let address = claims.address.unwrap_or(self.client.address);
        let sid = self.session.id();
        tracing::info!(%sid, client = %self.client.address, speaks_for = %address, name = claims.name, helo = claims.helo, "XCLIENT");
        if let Err(reply) = self.flow.admit(sid, address) {
            return Step::Close(reply);
        }
        self.client = Client { tls: self.client.tls.take(), ..self.flow.connected(address) };
        let greeting = self.session.begin_for(claims, self.flow.is_server(address));
        self.note_what_was_said();
        greeting
    }
}
