//! The server side of a session (RFC 5321) as a state machine without I/O. The driver hands in lines and the answers to the
//! questions a step asks; the session hands out steps. What it refuses by itself (syntax, sequence, limits) it answers itself.
//!
//! It knows nothing of sockets, time, DNS, greylisting or the queue. It cannot fail: whatever line comes in, a step goes out.
//! Verb by verb: first whether the command may come now, then what it says, then what it does.

mod command;
mod path;
mod xclient;

use crate::mail::{Domain, Enhanced, MailParameters, Mailbox, Notify, Recipient, Reply, ReversePath, SessionId};

use super::line::CommandLine;
use command::{NoCommand, Verb, bad_arguments};

pub use xclient::Claims;

/// What a session may do; a copy of the settings when it began.
#[derive(Clone, Debug)]
pub struct SessionLimits {
    pub hostname: Domain,
    pub size_max: u64,
    pub recipients_max: usize,
    pub errors_max: usize,
    /// STARTTLS is offered while the session is in clear text.
    pub tls_offered: bool,
    /// ETRN is named in the answer to EHLO: some domain's mail goes to this client.
    pub etrn_offered: bool,
    /// XCLIENT is offered and taken.
    pub xclient_offered: bool,
}

/// So many commands may lead to no message; Postfix, too, has patience for 100.
const IDLE_COMMANDS_MAX: usize = 100;

/// What the driver is to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write this reply and go on with the next line.
    Reply(Reply),
    /// Ask whether this sender may begin, then call [`Session::sender_answer`].
    CheckSender(ReversePath),
    /// Ask whether this recipient is taken (served? greylisted?), then call [`Session::recipient_answer`].
    CheckRecipient(Incoming),
    /// The client asks that this domain's mail be tried now (ETRN): may it, then call [`Session::drain_answer`].
    CheckDrain(String),
    /// Write this 354, read the text with a `DataReader`, then call [`Session::content_answer`].
    ReadData(Reply),
    /// The client speaks for another one from here on (XCLIENT): call [`Session::begin_for`].
    SpeaksFor(Claims),
    /// Read a chunk of `size` bytes; after the last, call [`Session::content_answer`]; before it, [`Session::chunk_answer`].
    /// `refused`: BDAT out of sequence, so the chunk is read and thrown away and this is the answer; call nothing.
    ReadChunk { size: u64, last: bool, refused: Option<Reply> },
    /// Drop everything buffered, write this 220, shake hands, then call [`Session::encrypted`].
    StartTls(Reply),
    /// Write this reply and close.
    Close(Reply),
}

/// A recipient as it was asked for; `postmaster` without a domain is the flow's to resolve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    pub mailbox: Mailbox,
    pub notify: Option<Notify>,
    pub orcpt: Option<String>,
}

/// The transaction so far: what the envelope is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    pub reverse_path: ReversePath,
    pub parameters: MailParameters,
    pub recipients: Vec<Recipient>,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    limits: SessionLimits,
    /// `None` before EHLO or HELO.
    peer: Option<Peer>,
    expected: Expected,
    encrypted: bool,
    /// It said something that SMTP knows.
    speaks_smtp: bool,
    /// EHLO was answered, so that the peer may pipeline (RFC 2920 §3.1).
    pipelining_offered: bool,
    errors: usize,
    /// Commands since the last message that lead to none: NOOP, RSET, EHLO and their like.
    idle_commands: usize,
    /// Messages whose content was begun.
    messages: u32,
}

/// How the peer presented itself.
#[derive(Debug)]
struct Peer {
    name: String,
    extended: bool,
}

/// What comes next; while an answer is expected no line may come.
#[derive(Debug)]
enum Expected {
    Mail,
    SenderAnswer(ReversePath, MailParameters),
    Rcpt(Open),
    RecipientAnswer(Open),
    ContentAnswer(Transaction),
    /// A chunk is being read.
    ChunkAnswer(Transaction),
    /// Some chunks were read; only BDAT goes on from here.
    Bdat(Transaction),
    /// A chunk failed: every further one gets the same answer, up to the last.
    EndOfChunks(Reply),
    Handshake,
}

/// A transaction that takes recipients.
#[derive(Debug)]
struct Open {
    transaction: Transaction,
    /// Some recipient was refused: a client that pipelines DATA after it has made no mistake.
    refused_any: bool,
}

impl Session {
    pub fn new(id: SessionId, limits: SessionLimits) -> Session {
        Session {
            id,
            limits,
            peer: None,
            expected: Expected::Mail,
            encrypted: false,
            speaks_smtp: false,
            pipelining_offered: false,
            errors: 0,
            idle_commands: 0,
            messages: 0,
        }
    }

    /// `220 hostname ESMTP Feedgate`
    pub fn greeting(&self) -> Reply {
        Reply::plain(220, [format!("{} ESMTP Feedgate", self.limits.hostname)])
    }

    /// A command line came in.
    pub fn line(&mut self, line: CommandLine) -> Step {
        let CommandLine::Line(line) = line else {
            return self.refuse(Reply::new(500, Enhanced(5, 5, 2), "Line too long"));
        };
        let (verb, arguments) = match command::split(&line) {
            Ok(command) => command,
            Err(_) if !self.speaks_smtp => return self.not_smtp(),
            Err(NoCommand::Control) => return self.refuse(syntax("Control characters are not allowed in a command")),
            Err(NoCommand::NotUtf8) => return self.refuse(syntax("Bytes that are not UTF-8 are not allowed in a command")),
        };
        let looks_like_a_word = line.first().is_none_or(u8::is_ascii_alphabetic);
        if verb == Verb::Http || verb == Verb::Unknown && !self.speaks_smtp && !looks_like_a_word {
            return self.not_smtp();
        }
        self.speaks_smtp |= verb != Verb::Unknown;
        self.command(verb, arguments)
    }

    fn command(&mut self, verb: Verb, arguments: &str) -> Step {
        if verb.is_idle() && self.idles_too_long() {
            return too_many_errors();
        }
        match verb {
            Verb::Ehlo => self.hello(arguments, true),
            Verb::Helo => self.hello(arguments, false),
            Verb::Mail => self.mail(arguments),
            Verb::Rcpt => self.rcpt(arguments),
            Verb::Data => self.data(arguments),
            Verb::Bdat => self.bdat(arguments),
            Verb::Rset => self.rset(arguments),
            Verb::StartTls => self.start_tls(arguments),
            Verb::Etrn => self.etrn(arguments),
            Verb::Xclient if self.limits.xclient_offered => self.xclient(arguments),
            Verb::Noop => Step::Reply(Reply::ok()),
            // RFC 5321 §7.3: neither confirms nor denies; which addresses exist is no one's business.
            Verb::Vrfy => Step::Reply(Reply::new(252, Enhanced(2, 1, 5), "Send some mail, and I will try my best")),
            Verb::Help => Step::Reply(Reply::new(
                214,
                Enhanced(2, 0, 0),
                "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT STARTTLS; see RFC 5321",
            )),
            Verb::Quit => Step::Close(Reply::new(221, Enhanced(2, 0, 0), "Bye")),
            Verb::Expn | Verb::Xclient | Verb::NotOffered => {
                self.refuse(Reply::new(502, Enhanced(5, 5, 1), "Command not implemented"))
            }
            Verb::Http | Verb::Unknown => self.refuse(Reply::new(500, Enhanced(5, 5, 1), "Command not recognized")),
        }
    }

    /// RFC 5321 §4.1.4: EHLO at any time resets the transaction.
    fn hello(&mut self, arguments: &str, extended: bool) -> Step {
        let name = match command::helo_name(arguments) {
            Ok(name) => name,
            Err(reply) => return self.refuse(reply),
        };
        self.peer = Some(Peer { name, extended });
        self.expected = Expected::Mail;
        let hostname = self.limits.hostname.to_string();
        if !extended {
            return Step::Reply(Reply::plain(250, [hostname]));
        }
        self.pipelining_offered = true;
        let mut lines = vec![hostname, "PIPELINING".to_owned(), format!("SIZE {}", self.limits.size_max)];
        lines.extend(["8BITMIME", "SMTPUTF8", "CHUNKING", "ENHANCEDSTATUSCODES", "DSN"].map(str::to_owned));
        lines.push(format!("LIMITS RCPTMAX={}", self.limits.recipients_max));
        if self.limits.etrn_offered {
            lines.push("ETRN".to_owned());
        }
        if self.limits.tls_offered && !self.encrypted {
            lines.push("STARTTLS".to_owned());
        }
        if self.limits.xclient_offered {
            lines.push(format!("XCLIENT {}", xclient::ATTRIBUTES));
        }
        Step::Reply(Reply::plain(250, lines))
    }

    fn mail(&mut self, arguments: &str) -> Step {
        if self.peer.is_none() {
            return self.refuse(sequence("Send EHLO or HELO first"));
        }
        if !matches!(self.expected, Expected::Mail) {
            return self.refuse(sequence("There is a transaction already, end it with RSET"));
        }
        match path::mail(arguments, self.limits.size_max) {
            Ok((reverse_path, parameters)) => {
                self.expected = Expected::SenderAnswer(reverse_path.clone(), parameters);
                Step::CheckSender(reverse_path)
            }
            Err(reply) => self.refuse(reply),
        }
    }

    /// The answer to `CheckSender`: positive (250 2.1.0) opens the transaction. Returns the step to do: the reply, or `Close`
    /// when there were too many errors.
    pub fn sender_answer(&mut self, reply: Reply) -> Step {
        let before = std::mem::replace(&mut self.expected, Expected::Mail);
        match before {
            Expected::SenderAnswer(reverse_path, parameters) if reply.is_positive() => {
                let transaction = Transaction { reverse_path, parameters, recipients: Vec::new() };
                self.expected = Expected::Rcpt(Open { transaction, refused_any: false });
                Step::Reply(reply)
            }
            _ => self.refuse(reply),
        }
    }

    fn rcpt(&mut self, arguments: &str) -> Step {
        let Expected::Rcpt(open) = &self.expected else {
            return self.refuse(sequence("Send MAIL first"));
        };
        let read = path::rcpt(arguments, open.transaction.parameters.smtputf8);
        let full = open.transaction.recipients.len() >= self.limits.recipients_max;
        match read {
            Err(reply) => self.refuse_recipient(reply),
            Ok(_) if full => self.refuse_recipient(Reply::too_many_recipients()),
            Ok((mailbox, notify, orcpt)) => {
                let before = std::mem::replace(&mut self.expected, Expected::Mail);
                if let Expected::Rcpt(open) = before {
                    self.expected = Expected::RecipientAnswer(open);
                }
                Step::CheckRecipient(Incoming { mailbox, notify, orcpt })
            }
        }
    }

    /// The answer to `CheckRecipient`; `Ok` holds the recipient as it goes into the envelope.
    pub fn recipient_answer(&mut self, answer: Result<Recipient, Reply>) -> Step {
        let before = std::mem::replace(&mut self.expected, Expected::Mail);
        let Expected::RecipientAnswer(mut open) = before else {
            return self.refuse(sequence("Send MAIL first"));
        };
        match answer {
            Ok(recipient) => {
                open.transaction.recipients.push(recipient);
                self.expected = Expected::Rcpt(open);
                Step::Reply(Reply::new(250, Enhanced(2, 1, 5), "Ok"))
            }
            Err(reply) => {
                self.expected = Expected::Rcpt(open);
                self.refuse_recipient(reply)
            }
        }
    }

    fn refuse_recipient(&mut self, reply: Reply) -> Step {
        if let Expected::Rcpt(open) = &mut self.expected {
            open.refused_any = true;
        }
        self.refuse(reply)
    }

    fn data(&mut self, arguments: &str) -> Step {
        match &self.expected {
            Expected::Rcpt(open) if open.is_without_recipients() => {
                return if open.refused_any {
                    Step::Reply(no_valid_recipients())
                } else {
                    self.refuse(sequence("Send RCPT first"))
                };
            }
            Expected::Rcpt(_) => {}
            Expected::Bdat(_) | Expected::EndOfChunks(_) => return self.refuse(sequence("DATA and BDAT do not mix")),
            _ => return self.refuse(sequence("Send MAIL and RCPT first")),
        }
        if !arguments.is_empty() {
            return self.refuse(bad_arguments("Syntax: DATA has no arguments"));
        }
        if let Expected::Rcpt(open) = std::mem::replace(&mut self.expected, Expected::Mail) {
            self.messages += 1;
            self.expected = Expected::ContentAnswer(open.transaction);
        }
        Step::ReadData(Reply::plain(354, ["End data with <CR><LF>.<CR><LF>"]))
    }

    /// RFC 3030 §2. Whatever the answer, the bytes of the chunk follow the command and have to be read.
    fn bdat(&mut self, arguments: &str) -> Step {
        let Some((size, last)) = command::bdat(arguments) else {
            // How many bytes follow is unknown, and they are somebody's message: read as commands they would do whatever that
            // somebody wants. So the session ends here.
            self.errors += 1;
            return Step::Close(bad_arguments("Syntax: BDAT size [LAST], closing"));
        };
        let refused = match &self.expected {
            Expected::Bdat(_) => None,
            Expected::Rcpt(open) if !open.is_without_recipients() => None,
            Expected::Rcpt(Open { refused_any: true, .. }) => Some(no_valid_recipients()),
            Expected::EndOfChunks(reply) => Some(reply.clone()),
            _ => match self.refuse(sequence("Send MAIL and RCPT first")) {
                Step::Reply(reply) => Some(reply),
                close => return close,
            },
        };
        if refused.is_none() {
            self.begin_chunk();
        } else if last && matches!(self.expected, Expected::EndOfChunks(_)) {
            self.expected = Expected::Mail;
        }
        Step::ReadChunk { size, last, refused }
    }

    fn begin_chunk(&mut self) {
        self.expected = match std::mem::replace(&mut self.expected, Expected::Mail) {
            Expected::Rcpt(open) => {
                self.messages += 1;
                Expected::ChunkAnswer(open.transaction)
            }
            Expected::Bdat(transaction) => Expected::ChunkAnswer(transaction),
            other => other,
        };
    }

    /// A chunk that was not the last was read (`Ok`: 250 2.0.0 with its size) or failed.
    pub fn chunk_answer(&mut self, answer: Result<u64, Reply>) -> Step {
        match (answer, std::mem::replace(&mut self.expected, Expected::Mail)) {
            (Ok(size), Expected::ChunkAnswer(transaction)) => {
                self.expected = Expected::Bdat(transaction);
                Step::Reply(Reply::new(250, Enhanced(2, 0, 0), format!("{size} bytes received")))
            }
            (Err(reply), Expected::ChunkAnswer(_)) => {
                self.expected = Expected::EndOfChunks(reply.clone());
                Step::Reply(reply)
            }
            _ => self.refuse(sequence("Send BDAT first")),
        }
    }

    /// The message was taken or refused; ends the transaction either way.
    pub fn content_answer(&mut self, reply: Reply) -> Step {
        self.expected = Expected::Mail;
        self.idle_commands = 0;
        Step::Reply(reply)
    }

    /// The transaction whose content is being read, and its number in the session, from 1.
    pub fn transaction(&self) -> Option<(&Transaction, u32)> {
        match &self.expected {
            Expected::ContentAnswer(transaction) | Expected::ChunkAnswer(transaction) | Expected::Bdat(transaction) => {
                Some((transaction, self.messages))
            }
            _ => None,
        }
    }

    /// The recipients that were taken in the transaction that is open.
    pub fn recipients(&self) -> &[Recipient] {
        match &self.expected {
            Expected::Rcpt(open) | Expected::RecipientAnswer(open) => &open.transaction.recipients,
            _ => &[],
        }
    }

    /// The sender of the transaction that is open, from MAIL to its end.
    pub fn reverse_path(&self) -> Option<&ReversePath> {
        match &self.expected {
            Expected::Rcpt(open) | Expected::RecipientAnswer(open) => Some(&open.transaction.reverse_path),
            _ => self.transaction().map(|(transaction, _)| &transaction.reverse_path),
        }
    }

    fn rset(&mut self, arguments: &str) -> Step {
        if !arguments.is_empty() {
            return self.refuse(bad_arguments("Syntax: RSET has no arguments"));
        }
        self.expected = Expected::Mail;
        Step::Reply(Reply::ok())
    }

    fn start_tls(&mut self, arguments: &str) -> Step {
        if self.encrypted {
            return self.refuse(sequence("TLS is active already"));
        }
        if !self.limits.tls_offered {
            return self.refuse(Reply::new(502, Enhanced(5, 5, 1), "STARTTLS is not offered"));
        }
        if !arguments.is_empty() {
            return self.refuse(bad_arguments("Syntax: STARTTLS has no arguments"));
        }
        self.expected = Expected::Handshake;
        Step::StartTls(Reply::new(220, Enhanced(2, 0, 0), "Ready to start TLS"))
    }

    /// RFC 1985 §5.1: after EHLO, between transactions.
    fn etrn(&mut self, arguments: &str) -> Step {
        if !self.is_extended() {
            return self.refuse(sequence("Send EHLO first"));
        }
        if !matches!(self.expected, Expected::Mail) {
            return self.refuse(sequence("There is a transaction, end it first"));
        }
        match command::etrn(arguments) {
            Some(domain) => Step::CheckDrain(domain.to_owned()),
            None => self.refuse(bad_arguments("Syntax: ETRN domain")),
        }
    }

    /// The answer to `CheckDrain`.
    pub fn drain_answer(&mut self, reply: Reply) -> Step {
        if reply.is_positive() { Step::Reply(reply) } else { self.refuse(reply) }
    }

    /// Between transactions, as Postfix has it (XCLIENT_README).
    fn xclient(&mut self, arguments: &str) -> Step {
        if !matches!(self.expected, Expected::Mail) {
            return self.refuse(sequence("There is a transaction, end it first"));
        }
        match xclient::claims(arguments) {
            Ok(claims) => Step::SpeaksFor(claims),
            Err(reply) => self.refuse(reply),
        }
    }

    /// After `SpeaksFor`: as if the other client had just connected. Its greeting, when the claims have one, was said already.
    pub fn begin_for(&mut self, claims: Claims, etrn_offered: bool) -> Step {
        self.limits.etrn_offered = etrn_offered;
        self.pipelining_offered = false;
        self.peer = claims.helo.map(|name| Peer { name, extended: claims.extended });
        self.expected = Expected::Mail;
        Step::Reply(self.greeting())
    }

    /// The handshake is done: forget everything the client said before it (RFC 3207 §4.2).
    pub fn encrypted(&mut self) {
        self.encrypted = true;
        self.peer = None;
        self.expected = Expected::Mail;
    }

    /// What EHLO or HELO said; empty before.
    pub fn helo(&self) -> &str {
        self.peer.as_ref().map_or("", |peer| &peer.name)
    }

    /// It said EHLO, not HELO.
    pub fn is_extended(&self) -> bool {
        self.peer.as_ref().is_some_and(|peer| peer.extended)
    }

    /// Whether the peer was told that it may send several commands at a time. Once is enough: what is said under TLS is the same.
    pub fn pipelining_offered(&self) -> bool {
        self.pipelining_offered
    }

    /// Commands that were refused for good so far.
    pub fn errors(&self) -> usize {
        self.errors
    }

    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Answers with a refusal. A permanent one is the peer's error and counts; "not now" does not. 421 ends the session.
    fn refuse(&mut self, reply: Reply) -> Step {
        if reply.code == 421 {
            return Step::Close(reply);
        }
        if reply.is_permanent() {
            self.errors += 1;
            if self.errors >= self.limits.errors_max {
                return too_many_errors();
            }
        }
        Step::Reply(reply)
    }

    /// A session in which nothing is sent is an error after the other from some time on, although each command is answered.
    fn idles_too_long(&mut self) -> bool {
        self.idle_commands += 1;
        self.errors += usize::from(self.idle_commands > IDLE_COMMANDS_MAX);
        self.idle_commands > IDLE_COMMANDS_MAX && self.errors >= self.limits.errors_max
    }

    /// A browser, a TLS client, a port scanner. What follows could be chosen by a third party (a web page can make a browser post
    /// lines that look like SMTP), so nothing of it is read.
    fn not_smtp(&mut self) -> Step {
        self.errors += 1;
        Step::Close(Reply::new(421, Enhanced(4, 7, 0), "This server speaks SMTP and nothing else, closing"))
    }
}

impl Open {
    fn is_without_recipients(&self) -> bool {
        self.transaction.recipients.is_empty()
    }
}

fn sequence(text: &'static str) -> Reply {
    Reply::new(503, Enhanced(5, 5, 1), text)
}

/// Not a well-formed command at all.
fn syntax(text: &'static str) -> Reply {
    Reply::new(501, Enhanced(5, 5, 2), text)
}

fn too_many_errors() -> Step {
    Step::Close(Reply::new(421, Enhanced(4, 7, 0), "Too many errors, closing"))
}

fn no_valid_recipients() -> Reply {
    Reply::new(554, Enhanced(5, 5, 1), "No valid recipients")
}

#[cfg(test)]
mod tests;
