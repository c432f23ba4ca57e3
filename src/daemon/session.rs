//! The driver of one SMTP session: a connection on one side, `smtp::Session` and `Flow` on the other.
//!
//! It moves bytes and answers and decides nothing: what a line means is the session's, what becomes of a message is the flow's.
//!
//! What happens on failure:
//! - The peer goes away, or cannot be written to: the session ends quietly. Content that has not ended leaves nothing behind.
//! - The peer is silent, or takes too long in all: 421 4.4.2.
//! - The gateway stops: content that is on its way is taken to its end; then, or at the next command, 421 4.3.2.
//! - The store fails while content arrives: it is read to its end, and then answered 451 or 452.
//!
//! Once the content has ended nothing interrupts the flow: no timeout, no stop, no peer that hung up. What was committed and
//! could not be answered comes again; the other way round it would be lost.
//!
//! An idle session holds one small buffer; whatever is large lives in a box while it is needed. 10,000 sessions depend on it,
//! and a test watches the size.

mod content;
mod manners;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::sync::watch;

use crate::config::Config;
use crate::flow::Flow;
use crate::mail::{Client, Enhanced, Envelope, Protocol, Reply, ReversePath, SessionId};
use crate::outside::Stream;
use crate::smtp::{CommandLine, DataStatus, Incoming, Session, SessionLimits, Step};

use content::Content;
use manners::PIPELINING;
use wire::{CONTENT_READ, Ended, Wire};

/// Serves one connection to its end. `tls`: absent, STARTTLS is not offered. `stop` becomes true when the gateway shuts down.
/// A client that is banned, or comes too often, hears so in place of the greeting.
pub async fn serve<S: Stream + 'static>(
    flow: Arc<Flow>,
    stream: S,
    peer: SocketAddr,
    sid: SessionId,
    tls: Option<Arc<ServerConfig>>,
    stop: watch::Receiver<bool>,
) {
    let config = flow.config();
    let wire = Wire::new(Box::new(stream), config.smtp.idle_timeout, config.smtp.session_timeout);
    if let Err(reply) = flow.admit(sid, peer.ip()) {
        let explained_and_refused = async { refuse(wire, flow.explained_at_door(peer.ip(), reply).await).await };
        return Box::pin(explained_and_refused).await;
    }
    let limits = SessionLimits {
        hostname: config.hostname.clone(),
        size_max: config.smtp.size_max,
        recipients_max: config.limits.recipients_per_message,
        errors_max: config.limits.errors_per_session,
        tls_offered: tls.is_some(),
        etrn_offered: flow.is_server(peer.ip()),
        xclient_offered: config.smtp.xclient_from.iter().any(|network| network.contains(&peer.ip().to_canonical())),
    };
    let client = flow.connected(peer.ip());
    let session = Session::new(sid, limits);
    let mut driver = Driver { flow, config, session, client, wire, chunks: None, errors_counted: 0, tls, stop };
    driver.run().await;
}

async fn refuse(mut wire: Wire, reply: Reply) {
    wire.close(Some(reply)).await;
}

struct Driver {
    flow: Arc<Flow>,
    /// The settings when the session began; a reload does not change the rules under a session.
    config: Arc<Config>,
    session: Session,
    client: Client,
    wire: Wire,
    /// Content between two BDAT chunks.
    chunks: Option<Box<Content>>,
    /// Of the session's errors, those that its client was charged with.
    errors_counted: usize,
    tls: Option<Arc<ServerConfig>>,
    stop: watch::Receiver<bool>,
}

impl Driver {
    async fn run(&mut self) {
        let ended = match Box::pin(self.wait_for_silence()).await {
            Ok(()) => self.talk().await,
            Err(ended) => ended,
        };
        Box::pin(self.end(ended)).await;
    }

    async fn talk(&mut self) -> Ended {
        self.wire.reply(&self.session.greeting());
        loop {
            let line = match self.next_line().await {
                Ok(line) => line,
                Err(ended) => return ended,
            };
            self.debug_line(&line);
            let runs_ahead = !self.session.pipelining_offered() && !self.wire.input.is_empty();
            let step = self.session.line(line);
            self.note_what_was_said();
            if runs_ahead
                && !matches!(step, Step::Close(_))
                && let Err(ended) = Box::pin(self.spoke_out_of_turn(PIPELINING)).await
            {
                return ended;
            }
            if let Err(ended) = self.act(step).await {
                return ended;
            }
        }
    }

    /// A stop is heeded between commands and while waiting for one, but not between the chunks of one message.
    async fn next_line(&mut self) -> Result<CommandLine, Ended> {
        if self.session.transaction().is_some() {
            return self.wire.line().await;
        }
        tokio::select! {
            biased;
            () = stopping(&mut self.stop) => Err(Ended::Stopping),
            line = self.wire.line() => line,
        }
    }

    /// EHLO, RSET and their like change who the client is and whether content is still wanted.
    fn note_what_was_said(&mut self) {
        if self.session.transaction().is_none() {
            self.chunks = None;
        }
        if self.client.helo != self.session.helo() {
            self.session.helo().clone_into(&mut self.client.helo);
        }
        // RFC 3848 knows no name for HELO under TLS.
        self.client.protocol = match (self.session.is_extended(), &self.client.tls) {
            (true, Some(_)) => Protocol::Esmtps,
            (true, None) => Protocol::Esmtp,
            (false, _) => Protocol::Smtp,
        };
    }

    async fn act(&mut self, step: Step) -> Result<(), Ended> {
        let asks_for_recipient = matches!(step, Step::CheckRecipient(_));
        let said = match step {
            Step::CheckSender(reverse_path) => self.check_sender(&reverse_path).await,
            Step::CheckRecipient(incoming) => self.check_recipient(incoming).await,
            Step::CheckDrain(domain) => {
                let reply = Box::pin(self.flow.drain(self.session.id(), &self.client, &domain)).await;
                self.session.drain_answer(reply)
            }
            Step::SpeaksFor(claims) => Box::pin(self.speak_for(claims)).await,
            Step::ReadData(go_ahead) => Box::pin(self.read_data(go_ahead)).await?,
            Step::ReadChunk { size, refused: Some(reply), .. } => {
                self.wire.skip(size).await?;
                Step::Reply(reply)
            }
            Step::ReadChunk { size, last, refused: None } => Box::pin(self.read_chunk(size, last)).await?,
            Step::StartTls(go_ahead) => return Box::pin(self.start_tls(go_ahead)).await,
            said @ (Step::Reply(_) | Step::Close(_)) => said,
        };
        if self.session.errors() > self.errors_counted {
            Box::pin(self.answer_for_error(&said, asks_for_recipient)).await?;
        }
        match said {
            Step::Reply(reply) => {
                tracing::debug!(sid = %self.session.id(), "S: {reply}");
                self.wire.reply(&reply);
                Ok(())
            }
            Step::Close(reply) => Err(Ended::Closed(reply)),
            _ => unreachable!("an answer leads to a reply or to the end"),
        }
    }

    async fn check_sender(&mut self, reverse_path: &ReversePath) -> Step {
        let reply = Box::pin(self.flow.sender(self.session.id(), &self.client, reverse_path)).await;
        self.session.sender_answer(reply)
    }

    async fn check_recipient(&mut self, incoming: Incoming) -> Step {
        let reverse_path = self.session.reverse_path().cloned().unwrap_or(ReversePath::Null);
        let answer = Box::pin(self.flow.recipient(self.session.id(), &self.client, &reverse_path, incoming)).await;
        let others = self.session.recipients();
        let answer =
            answer.and_then(|recipient| self.flow.goes_with(self.session.id(), &self.client, &reverse_path, others, recipient));
        self.session.recipient_answer(answer)
    }

    async fn read_data(&mut self, go_ahead: Reply) -> Result<Step, Ended> {
        self.wire.reply(&go_ahead);
        let mut content = self.new_content();
        let result = loop {
            let status = content.reader.data(&mut self.wire.input, &mut content.out);
            content.store_when_large().await;
            match status {
                DataStatus::More => self.wire.fill(CONTENT_READ).await?,
                DataStatus::End(result) => break result,
            }
        };
        let reply = match content.refusal(result) {
            Some(reply) => self.refused(reply),
            None => self.complete(content).await,
        };
        Ok(self.session.content_answer(reply))
    }

    async fn read_chunk(&mut self, size: u64, last: bool) -> Result<Step, Ended> {
        let mut content = self.chunks.take().unwrap_or_else(|| Box::new(self.new_content()));
        let mut remaining = size;
        let result = loop {
            let status = content.reader.chunk(&mut self.wire.input, &mut remaining, &mut content.out);
            content.store_when_large().await;
            match status {
                DataStatus::More => self.wire.fill(CONTENT_READ).await?,
                DataStatus::End(result) => break result,
            }
        };
        Ok(match (content.refusal(result), last) {
            (Some(reply), true) => {
                let reply = self.refused(reply);
                self.session.content_answer(reply)
            }
            (Some(reply), false) => {
                let reply = self.refused(reply);
                self.session.chunk_answer(Err(reply))
            }
            (None, true) => {
                let reply = self.complete(*content).await;
                self.session.content_answer(reply)
            }
            (None, false) => {
                self.chunks = Some(content);
                self.session.chunk_answer(Ok(size))
            }
        })
    }

    fn new_content(&self) -> Content {
        Content::new(&self.config.smtp, self.flow.receive(), self.session.id())
    }

    /// All of it arrived and nothing is wrong with it: from here on it is the flow's. The reply is the flow's, too.
    async fn complete(&mut self, content: Content) -> Reply {
        let size = content.reader.size();
        let body = match content.finish().await {
            Ok(body) => body,
            Err(reply) => return self.refused(reply),
        };
        let (transaction, number) = self.session.transaction().expect("content belongs to a transaction");
        let envelope = Envelope {
            id: self.session.id().message(number),
            received_at: self.flow.now(),
            client: self.client.clone(),
            reverse_path: transaction.reverse_path.clone(),
            parameters: transaction.parameters.clone(),
            recipients: transaction.recipients.clone(),
            size,
        };
        Box::pin(self.flow.content(envelope, body)).await
    }

    /// Logs the refusal of content and hands the reply back.
    fn refused(&self, reply: Reply) -> Reply {
        self.flow.refused(self.session.id(), &self.client, "data", self.session.reverse_path(), &reply);
        reply
    }

    async fn start_tls(&mut self, go_ahead: Reply) -> Result<(), Ended> {
        let config = Arc::clone(self.tls.as_ref().expect("STARTTLS is offered only with a certificate"));
        let tls = tokio::select! {
            biased;
            () = stopping(&mut self.stop) => return Err(Ended::Gone),
            tls = self.wire.encrypt(config, &go_ahead) => tls?,
        };
        tracing::debug!(sid = %self.session.id(), "encrypted: {tls}");
        self.client.tls = Some(tls);
        self.session.encrypted();
        self.note_what_was_said();
        Ok(())
    }

    async fn end(&mut self, ended: Ended) {
        let timed_out = |text| Reply::new(421, Enhanced(4, 4, 2), text);
        let last_word = match ended {
            Ended::Gone => None,
            Ended::Idle => Some(timed_out("Nothing was said for too long, closing")),
            Ended::SessionOver => Some(timed_out("The session lasted too long, closing")),
            Ended::Stopping => Some(Reply::shutting_down()),
            Ended::Closed(reply) => {
                if !reply.is_positive() {
                    self.flow.refused(self.session.id(), &self.client, "command", None, &reply);
                }
                Some(reply)
            }
        };
        tracing::debug!(sid = %self.session.id(), "ends: {}", last_word.as_ref().map_or("the peer is gone".into(), Reply::to_string));
        self.wire.close(last_word).await;
    }

    fn debug_line(&self, line: &CommandLine) {
        match line {
            CommandLine::Line(line) => tracing::debug!(sid = %self.session.id(), "C: {}", line.escape_ascii()),
            CommandLine::TooLong => tracing::debug!(sid = %self.session.id(), "C: (a line that is too long)"),
        }
    }
}

/// Returns when the gateway stops. A sender that is gone will never say so.
async fn stopping(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, D, E, F, Fut>(_: fn(A, B, C, D, E, F) -> Fut) -> usize {
        size_of::<Fut>()
    }

    #[test]
    fn an_idle_session_is_small() {
        let size = size_of_future(serve::<tokio::net::TcpStream>);
        assert!(size <= 2048, "{size} bytes for each of 10,000 sessions");
    }
}
