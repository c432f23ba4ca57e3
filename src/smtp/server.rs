//! The server side of a session (RFC 5321) as a state machine without I/O. The driver hands in lines and the answers to the
//! questions a step asks; the session hands out steps. What it refuses by itself (syntax, sequence, limits) it answers itself.

use crate::mail::{BodyKind, Domain, Envelope, MailParameters, Mailbox, Recipient, Reply, ReversePath, SessionId};

use super::line::CommandLine;

/// What a session may do; a copy of the settings when it began.
#[derive(Clone, Debug)]
pub struct SessionLimits {
    pub hostname: Domain,
    pub size_max: u64,
    pub recipients_max: usize,
    pub errors_max: usize,
    /// STARTTLS is offered while the session is in clear text.
    pub tls_offered: bool,
}

/// What the driver is to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write this reply and go on with the next line.
    Reply(Reply),
    /// Ask whether this sender may begin, then call [`Session::sender_answer`].
    CheckSender(ReversePath, MailParameters),
    /// Ask whether this recipient is taken (served? greylisted?), then call [`Session::recipient_answer`].
    CheckRecipient(Incoming),
    /// Write this 354, read the text with a `DataReader`, then call [`Session::content_answer`].
    ReadData(Reply),
    /// Read a chunk of `size` bytes; after the last, call [`Session::content_answer`]; before it, [`Session::chunk_answer`].
    /// `refused`: BDAT out of sequence, so the chunk is read and thrown away and this is the answer.
    ReadChunk { size: u64, last: bool, refused: Option<Reply> },
    /// Write this 220, drop everything buffered, shake hands, then call [`Session::encrypted`].
    StartTls(Reply),
    /// Write this reply and close.
    Close(Reply),
}

/// A recipient as it was asked for; `postmaster` without a domain is the flow's to resolve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    pub mailbox: Mailbox,
    pub notify: Option<crate::mail::Notify>,
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
pub struct Session {}

impl Session {
    pub fn new(id: SessionId, limits: SessionLimits) -> Session {
        let _ = (id, limits);
        todo!()
    }

    /// `220 hostname ESMTP Feedgate`
    pub fn greeting(&self) -> Reply {
        todo!()
    }

    /// A command line came in.
    pub fn line(&mut self, line: CommandLine) -> Step {
        let _ = line;
        todo!()
    }

    /// The answer to `CheckSender`: positive (250 2.1.0) opens the transaction. Returns the step to do: the reply, or `Close`
    /// when there were too many errors.
    pub fn sender_answer(&mut self, reply: Reply) -> Step {
        let _ = reply;
        todo!()
    }

    /// The answer to `CheckRecipient`; `Ok` holds the recipient as it goes into the envelope.
    pub fn recipient_answer(&mut self, answer: Result<Recipient, Reply>) -> Step {
        let _ = answer;
        todo!()
    }

    /// A chunk that was not the last was read (`Ok`: 250 2.0.0 with its size) or failed.
    pub fn chunk_answer(&mut self, answer: Result<u64, Reply>) -> Step {
        let _ = answer;
        todo!()
    }

    /// The message was taken or refused; ends the transaction either way.
    pub fn content_answer(&mut self, reply: Reply) -> Step {
        let _ = reply;
        todo!()
    }

    /// The transaction whose content is being read, and its number in the session, from 1.
    pub fn transaction(&self) -> Option<(&Transaction, u32)> {
        todo!()
    }

    /// The handshake is done: forget everything the client said before it (RFC 3207 §4.2).
    pub fn encrypted(&mut self) {
        todo!()
    }

    /// What EHLO or HELO said; empty before.
    pub fn helo(&self) -> &str {
        todo!()
    }

    /// It said EHLO, not HELO.
    pub fn is_extended(&self) -> bool {
        todo!()
    }

    pub fn id(&self) -> SessionId {
        todo!()
    }
}

#[expect(unused, reason = "skeleton")]
type Unused = (BodyKind, Envelope);
