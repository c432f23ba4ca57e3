//! Opens a session: TCP, greeting, EHLO (HELO for those who do not know it), STARTTLS when it is offered, EHLO again.
//!
//! mail-send reads each answer into a buffer of its own and drops what follows it. Here that is what we want: a peer, or
//! somebody between us, gets nothing said ahead of a question, least of all across the TLS handshake (RFC 3207 §6).

use std::net::SocketAddr;
use std::time::Duration;

use mail_send::{Error, SmtpClient};
use smtp_proto::Response;
use tokio::time::timeout;

use crate::outside::{Stream, Transport};

use super::commands::Extensions;
use super::replies::append_clean;
use super::{ConnectFailure, Timeouts, TlsUse};

type Client = SmtpClient<Box<dyn Stream>>;

/// The session, and what the peer offers in it.
pub(super) async fn open(
    transport: &dyn Transport,
    to: SocketAddr,
    name: &str,
    helo: &str,
    tls: TlsUse,
    timeouts: &Timeouts,
) -> Result<(Client, Extensions), ConnectFailure> {
    let stream = transport.connect(to, timeouts.connect).await.map_err(|error| host(format!("cannot connect: {error}")))?;
    let mut client = SmtpClient { stream, timeout: timeouts.command };
    greeting(&mut client).await?;
    let extensions = hello(&mut client, helo).await?;
    if tls == TlsUse::Never || !extensions.start_tls || !start_tls_accepted(&mut client).await? {
        return Ok((client, extensions));
    }
    let stream = transport
        .start_tls(client.stream, name, timeouts.connect)
        .await
        .map_err(|error| ConnectFailure::Tls { why: clean(&format!("TLS handshake failed: {error}")) })?;
    let mut client = SmtpClient { stream, timeout: timeouts.command };
    // What was offered in clear text may have been put there by somebody else (RFC 3207 §4.2).
    let extensions = match ehlo(&mut client, helo).await {
        // In TLS 1.3 a server can refuse after our side of the handshake is done; it shows here.
        Err(Error::Io(error)) => return Err(ConnectFailure::Tls { why: clean(&format!("TLS session broke: {error}")) }),
        Err(Error::UnparseableReply) => return Err(ConnectFailure::Tls { why: "TLS session ended at once".into() }),
        answer => answer.map_err(|error| host(failure_text(error, "EHLO after STARTTLS", timeouts.command)))?,
    };
    Ok((client, extensions))
}

async fn greeting(client: &mut Client) -> Result<(), ConnectFailure> {
    let wait = client.timeout;
    let greeting = timeout(wait, client.read()).await.unwrap_or(Err(Error::Timeout));
    match greeting.map_err(|error| host(failure_text(error, "the greeting", wait)))? {
        reply if is_positive(&reply) => Ok(()),
        reply => Err(host(reply_text(&reply))),
    }
}

/// EHLO, or HELO when that is refused for good (RFC 5321 §3.2: 500, 502; others are seen).
async fn hello(client: &mut Client, helo: &str) -> Result<Extensions, ConnectFailure> {
    match ehlo(client, helo).await {
        Ok(extensions) => return Ok(extensions),
        Err(Error::UnexpectedReply(reply)) if (500..600).contains(&reply.code) => {}
        Err(error) => return Err(host(failure_text(error, "EHLO", client.timeout))),
    }
    match client.cmd(format!("HELO {helo}\r\n")).await {
        Ok(reply) if is_positive(&reply) => Ok(Extensions::default()),
        Ok(reply) => Err(host(reply_text(&reply))),
        Err(error) => Err(host(failure_text(error, "HELO", client.timeout))),
    }
}

async fn ehlo(client: &mut Client, helo: &str) -> Result<Extensions, Error> {
    client.ehlo(helo).await.map(|response| Extensions::from_ehlo(&response))
}

/// Asks for TLS. A peer that offers it and then has none now (454) or refuses is talked to in clear text.
async fn start_tls_accepted(client: &mut Client) -> Result<bool, ConnectFailure> {
    match client.cmd("STARTTLS\r\n").await {
        Ok(reply) if reply.code == 421 => Err(host(reply_text(&reply))),
        Ok(reply) => Ok(is_positive(&reply)),
        Err(error) => Err(host(failure_text(error, "STARTTLS", client.timeout))),
    }
}

fn is_positive(reply: &Response<String>) -> bool {
    (200..300).contains(&reply.code)
}

fn failure_text(error: Error, stage: &str, waited: Duration) -> String {
    match error {
        Error::UnexpectedReply(reply) => reply_text(&reply),
        Error::Timeout => format!("no answer to {stage} within {}", humantime::format_duration(waited)),
        Error::Io(error) => format!("the connection broke at {stage}: {error}"),
        Error::UnparseableReply => format!("the connection was closed, or not SMTP, at {stage}"),
        error => format!("{stage}: {error}"),
    }
}

/// The peer's words on one line. smtp-proto 0.2.5 keeps each part of an enhanced code in a byte and stops counting at 255:
/// such a code is left out rather than told wrong.
fn reply_text(reply: &Response<String>) -> String {
    let mut text = reply.code.to_string();
    let [class, subject, detail] = reply.esc;
    if class != 0 && subject < 255 && detail < 255 {
        text.push_str(&format!(" {class}.{subject}.{detail}"));
    }
    append_clean(&mut text, &reply.message);
    text
}

fn host(why: String) -> ConnectFailure {
    ConnectFailure::Host { why: clean(&why) }
}

fn clean(text: &str) -> String {
    let mut line = String::new();
    append_clean(&mut line, text);
    line
}
