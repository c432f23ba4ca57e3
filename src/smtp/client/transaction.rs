//! One message: MAIL, RCPT, then DATA or BDAT, and what each reply means for whom.
//!
//! | reply | meaning |
//! |---|---|
//! | 421 anywhere | `Retry`, scope host, or message for 421 4.4.x (this connection was too slow or too long); the session is over |
//! | 4xx to MAIL or DATA | `Retry`, scope message; host when it says 4.3.1 or 4.3.2 (Exchange's back pressure, maintenance) |
//! | 4xx to RCPT | `Retry`, scope recipient; after 452 4.5.3 (too many) the rest are not asked: they come next |
//! | 5xx | `Failed`, for this recipient, or at MAIL, DATA and the end for all that have no answer |
//! | 2xx to the end of data | `Delivered` |
//! | silence, nonsense, a broken connection | `Retry`, before the text of the first message scope host, later scope message |
//!
//! 4.3.0 is not the host's trouble: servers say it when a filter of theirs fails over one message, and one message must
//! not make the others wait. `432 4.3.2` (one mailbox of Exchange is busy) is not either.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::mail::{Enhanced, Outcome, Scope};
use crate::outside::Body;

use super::replies::{PeerReply, append_clean};
use super::text::{Source, Stuffer};
use super::{Connection, Offer, State, commands};

/// RCPTs sent ahead of their replies. Commands and replies of one group fit into the buffers of both sides, so that neither
/// waits for the other to read.
const RCPT_GROUP: usize = 100;
/// Of one BDAT chunk, in bytes.
const CHUNK_MAX: u64 = 1024 * 1024;
/// What the peer may have said before it closed is worth this much waiting.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(2);

/// `Err`: nothing more can be done for those who have no answer yet, and this is what becomes of them.
pub(super) type Step<T> = Result<T, Outcome>;

/// One place for each recipient of the offer.
type Answers = [Option<Outcome>];

impl Connection {
    /// Either way the outcome is that of the recipients who got no answer of their own.
    pub(super) async fn hand_over(&mut self, offer: &Offer<'_>, answers: &mut Answers) -> Step<Outcome> {
        self.messages += 1;
        self.refuse_what_cannot_go(offer, answers)?;
        if answers.iter().all(Option::is_some) {
            return Err(self.retry(Scope::Message, "nobody is left to deliver to"));
        }
        self.begin().await?;
        let by_bdat = self.extensions.chunking && offer.chunking;
        let data_reply = self.envelope(offer, answers, by_bdat).await?;
        let reply = match data_reply {
            Some(reply) => self.data(offer, reply).await?,
            None => self.bdat(offer).await?,
        };
        if !reply.is_positive() {
            return Err(self.refusal(&reply, Scope::Message));
        }
        // The peer has taken it: from here on the message is its own, and the transaction is over without RSET.
        self.state = State::Ready;
        Ok(Outcome::Delivered { host: self.host.clone(), reply: reply.text })
    }

    /// What this peer is known not to take fails without asking it.
    fn refuse_what_cannot_go(&self, offer: &Offer<'_>, answers: &mut Answers) -> Step<()> {
        let size = offer.rewrite.size();
        if let Some(limit) = self.extensions.size_max.filter(|limit| size > *limit) {
            let reply = format!("552 5.3.4 Message has {size} bytes, {} takes {limit} at most", self.host);
            return Err(self.failed(reply));
        }
        if self.extensions.smtputf8 {
            return Ok(());
        }
        // RFC 6531 §3.1.1 wants a bounce for a declared SMTPUTF8 too. Most such messages hold nothing that needs it, and
        // raw UTF-8 in a header is read everywhere: only an address that cannot be written stops a message.
        let refused = || self.failed(format!("550 5.6.7 {} does not take addresses with such letters (SMTPUTF8)", self.host));
        if offer.envelope.reverse_path.address().is_some_and(|address| address.needs_smtputf8()) {
            return Err(refused());
        }
        for (answer, at) in answers.iter_mut().zip(offer.recipients) {
            if offer.envelope.recipients[*at].address.needs_smtputf8() {
                *answer = Some(refused());
            }
        }
        Ok(())
    }

    /// Makes sure that MAIL may follow.
    pub(super) async fn begin(&mut self) -> Step<()> {
        if self.state == State::InTransaction && self.replies.is_empty() {
            let answer = self.client.cmd("RSET\r\n").await;
            let reset = matches!(&answer, Ok(reply) if (200..300).contains(&reply.code));
            self.state = if reset { State::Ready } else { State::Broken };
        }
        if self.state != State::Ready || !self.replies.is_empty() {
            return Err(self.broken(self.session_scope(), "the session is over"));
        }
        self.state = State::InTransaction;
        Ok(())
    }

    /// MAIL, RCPTs and, unless the text goes by BDAT, DATA, whose reply is returned. Ahead of the replies when the peer
    /// offers PIPELINING. `Ok`: at least one recipient was accepted; no reply: the text goes by BDAT.
    async fn envelope(&mut self, offer: &Offer<'_>, answers: &mut Answers, by_bdat: bool) -> Step<Option<PeerReply>> {
        let pipelining = self.extensions.pipelining;
        let open: Vec<usize> = (0..answers.len()).filter(|place| answers[*place].is_none()).collect();
        let mut ahead = commands::mail(offer.envelope, offer.rewrite.size(), &self.extensions);
        if !pipelining {
            self.say(&ahead).await?;
            self.sender_reply().await??;
            ahead.clear();
        }
        let mut data_reply = None;
        let mut asked = 0;
        for group in open.chunks(if pipelining { RCPT_GROUP } else { 1 }) {
            let with_mail = !ahead.is_empty();
            for place in group {
                let recipient = &offer.envelope.recipients[offer.recipients[*place]];
                ahead.push_str(&commands::rcpt(recipient, &self.extensions));
            }
            asked += group.len();
            let with_data = pipelining && !by_bdat && asked == open.len();
            if with_data {
                ahead.push_str("DATA\r\n");
            }
            self.say(&ahead).await?;
            ahead.clear();
            if with_mail && let Err(refused) = self.sender_reply().await? {
                // The session breaking meanwhile changes nothing for this message.
                let _ = self.skip_replies(group.len(), with_data).await;
                return Err(refused);
            }
            let full = self.recipient_replies(group, answers).await?;
            if with_data {
                data_reply = Some(self.data_reply().await?);
            }
            if let Some(full) = full {
                open[asked..].iter().for_each(|place| answers[*place] = Some(full.clone()));
                break;
            }
        }
        if answers.iter().all(Option::is_some) {
            self.end_empty(data_reply).await?;
            return Err(self.retry(Scope::Message, "no recipient was accepted"));
        }
        if by_bdat {
            return Ok(None);
        }
        match data_reply {
            Some(reply) => Ok(Some(reply)),
            None => {
                self.say("DATA\r\n").await?;
                self.data_reply().await.map(Some)
            }
        }
    }

    /// The reply to MAIL; the inner error is a refusal, after which the session is still in step.
    pub(super) async fn sender_reply(&mut self) -> Step<Step<()>> {
        let reply = self.reply("MAIL", self.timeouts.command, self.session_scope()).await?;
        Ok(if reply.is_positive() { Ok(()) } else { Err(self.refusal(&reply, Scope::Message)) })
    }

    /// The reply to the only RCPT that was sent.
    pub(super) async fn recipient_reply(&mut self) -> Step<PeerReply> {
        self.reply("RCPT", self.timeouts.command, self.session_scope()).await
    }

    /// The replies to RCPTs that were sent. Returns what becomes of the recipients after them when the transaction is full.
    async fn recipient_replies(&mut self, group: &[usize], answers: &mut Answers) -> Step<Option<Outcome>> {
        let mut full = None;
        for place in group {
            let reply = self.reply("RCPT", self.timeouts.command, self.session_scope()).await?;
            if reply.is_positive() {
                continue;
            }
            // RFC 5321 §4.2: 3xx is no answer to RCPT.
            if reply.code < 400 {
                return Err(self.broken(self.session_scope(), &format!("unexpected reply to RCPT: {}", reply.text)));
            }
            let outcome =
                if reply.is_permanent() { self.failed(reply.text.clone()) } else { self.retry(Scope::Recipient, &reply.text) };
            if is_too_many(&reply) {
                full = Some(outcome.clone());
            }
            answers[*place] = Some(outcome);
        }
        Ok(full)
    }

    async fn data_reply(&mut self) -> Step<PeerReply> {
        self.reply("DATA", self.timeouts.data_init, self.session_scope()).await
    }

    /// What was sent ahead behind a MAIL that was refused is answered too (503), which says nothing about the recipients.
    async fn skip_replies(&mut self, recipients: usize, with_data: bool) -> Step<()> {
        for _ in 0..recipients {
            self.reply("RCPT", self.timeouts.command, self.session_scope()).await?;
        }
        let data_reply = if with_data { Some(self.data_reply().await?) } else { None };
        self.end_empty(data_reply).await
    }

    /// DATA was sent ahead and the peer waits for a text although nobody is to get it: it gets an empty one, which RFC 2920
    /// §3.1 makes it refuse.
    async fn end_empty(&mut self, data_reply: Option<PeerReply>) -> Step<()> {
        if data_reply.is_some_and(|reply| reply.code == 354) {
            self.say(".\r\n").await?;
            self.reply("the end of an empty text", self.timeouts.data_init, self.session_scope()).await?;
        }
        Ok(())
    }

    /// Sends the text after the reply to DATA, and returns the reply to its end.
    async fn data(&mut self, offer: &Offer<'_>, reply: PeerReply) -> Step<PeerReply> {
        if reply.code != 354 {
            return Err(self.refusal(&reply, Scope::Message));
        }
        self.in_step()?;
        let mut source = Source::new(offer.body, offer.rewrite);
        let mut stuffer = Stuffer::new();
        let mut block = Vec::with_capacity(Body::CHUNK as usize + Body::CHUNK as usize / 8);
        while let Some(piece) = self.piece(&mut source, Body::CHUNK).await? {
            stuffer.push(&piece, &mut block);
            if block.len() >= Body::CHUNK as usize {
                self.write_block(&block).await?;
                block.clear();
            }
        }
        stuffer.finish(&mut block);
        self.write_block(&block).await?;
        self.reply("the final dot", self.timeouts.data_end, Scope::Message).await
    }

    /// Sends the content in chunks (RFC 3030), and returns the reply to the last, or to the first that was refused.
    async fn bdat(&mut self, offer: &Offer<'_>) -> Step<PeerReply> {
        let mut source = Source::new(offer.body, offer.rewrite);
        let mut left = offer.rewrite.size();
        loop {
            self.in_step()?;
            let chunk = left.min(CHUNK_MAX);
            left -= chunk;
            let mark = if left == 0 { " LAST" } else { "" };
            self.chunk(&mut source, chunk, format!("BDAT {chunk}{mark}\r\n").into_bytes()).await?;
            let wait = if left == 0 { self.timeouts.data_end } else { self.timeouts.data_block };
            let reply = self.reply("BDAT", wait, Scope::Message).await?;
            if matches!(reply.code, 500 | 502) {
                // It offered CHUNKING and does not know BDAT: it reads the text as commands now. Nothing was said about the
                // message, so it does not fail.
                return Err(self.broken(Scope::Message, &reply.text));
            }
            if left == 0 || !reply.is_positive() {
                return Ok(reply);
            }
        }
    }

    /// One chunk of exactly `left` bytes; `block` holds its command.
    async fn chunk(&mut self, source: &mut Source<'_>, mut left: u64, mut block: Vec<u8>) -> Step<()> {
        while left > 0 {
            // The peer counts: a message shorter than promised must not be filled up with the next command.
            let Some(piece) = self.piece(source, left).await? else {
                return Err(self.unreadable("it is shorter than it was"));
            };
            left -= piece.len() as u64;
            block.extend_from_slice(&piece);
            if block.len() >= Body::CHUNK as usize {
                self.write_block(&block).await?;
                block.clear();
            }
        }
        self.write_block(&block).await
    }

    async fn piece(&mut self, source: &mut Source<'_>, most: u64) -> Step<Option<bytes::Bytes>> {
        source.next(most).await.map_err(|error| self.unreadable(&error.to_string()))
    }

    /// Our own trouble in the middle of the text. The connection is dropped without the final dot or the last chunk, so that
    /// no server takes half a message for a whole one.
    fn unreadable(&mut self, why: &str) -> Outcome {
        self.broken(Scope::Message, &format!("451 4.3.0 the message could not be read here: {why}"))
    }

    /// A block of the text.
    async fn write_block(&mut self, block: &[u8]) -> Step<()> {
        self.write(block, self.timeouts.data_block, Scope::Message).await
    }

    /// Commands, whole lines.
    pub(super) async fn say(&mut self, lines: &str) -> Step<()> {
        self.in_step()?;
        self.write(lines.as_bytes(), self.timeouts.command, self.session_scope()).await
    }

    async fn write(&mut self, bytes: &[u8], wait: Duration, scope: Scope) -> Step<()> {
        let stream = &mut self.client.stream;
        let written = timeout(wait, async {
            stream.write_all(bytes).await?;
            stream.flush().await
        });
        let error = match written.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => format!("the connection broke: {error}"),
            Err(_) => {
                let wait = humantime::format_duration(wait);
                return Err(self.broken(scope, &format!("nothing was taken within {wait}")));
            }
        };
        // A server that refuses in the middle and closes has said why.
        match timeout(LAST_WORDS_WAIT, self.replies.next(&mut *self.client.stream)).await {
            Ok(Ok(reply)) if !reply.is_positive() && reply.code >= 400 => {
                self.state = State::Broken;
                Err(self.refusal(&reply, scope))
            }
            _ => Err(self.broken(scope, &error)),
        }
    }

    /// The next reply, to `what`. After 421 the peer closes (RFC 5321 §3.8), whatever it was asked.
    async fn reply(&mut self, what: &str, wait: Duration, scope: Scope) -> Step<PeerReply> {
        match timeout(wait, self.replies.next(&mut *self.client.stream)).await {
            Ok(Ok(reply)) if reply.code == 421 => Err(self.refusal(&reply, scope)),
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(self.broken(scope, &format!("no reply to {what}: {error}"))),
            Err(_) => {
                let wait = humantime::format_duration(wait);
                Err(self.broken(scope, &format!("no reply to {what} within {wait}")))
            }
        }
    }

    /// A peer that has said more than it was asked is a reply ahead of us: its 250 to a RCPT could be taken for its 250 to
    /// the message. Such a session ends before the next question.
    fn in_step(&mut self) -> Step<()> {
        if self.replies.is_empty() {
            return Ok(());
        }
        Err(self.broken(Scope::Host, "the host sent a reply that nobody had asked for"))
    }

    /// What a reply that is not positive means for those without an answer of their own.
    fn refusal(&mut self, reply: &PeerReply, scope: Scope) -> Outcome {
        if reply.code == 421 {
            // 4.4.x: this connection was idle, slow or used for too long. Another one will do.
            let own = matches!(reply.enhanced, Some(Enhanced(4, 4, _)));
            return self.broken(if own { Scope::Message } else { Scope::Host }, &reply.text);
        }
        if reply.is_permanent() {
            return self.failed(reply.text.clone());
        }
        if !reply.is_temporary() {
            return self.broken(scope, &format!("unexpected reply: {}", reply.text));
        }
        let host_trouble = matches!(reply.enhanced, Some(Enhanced(4, 3, 1 | 2))) && reply.code != 432;
        self.retry(if host_trouble { Scope::Host } else { scope }, &reply.text)
    }

    /// Whose trouble it is when the session breaks before the text. One that has carried a message shows that the host is
    /// there; it ended for reasons of its own, and a new one will do.
    fn session_scope(&self) -> Scope {
        if self.messages > 1 { Scope::Message } else { Scope::Host }
    }

    fn retry(&self, scope: Scope, why: &str) -> Outcome {
        let mut reply = String::new();
        append_clean(&mut reply, why);
        Outcome::Retry { scope, host: Some(self.host.clone()), reply }
    }

    fn failed(&self, reply: String) -> Outcome {
        Outcome::Failed { host: Some(self.host.clone()), reply }
    }

    fn broken(&mut self, scope: Scope, why: &str) -> Outcome {
        self.state = State::Broken;
        self.retry(scope, why)
    }
}

/// `452 4.5.3`: no more recipients in this transaction. Some say it in words only.
fn is_too_many(reply: &PeerReply) -> bool {
    let says_so = || reply.text.to_ascii_lowercase().contains("too many recipients");
    reply.code == 452 && (reply.enhanced == Some(Enhanced(4, 5, 3)) || says_so())
}
