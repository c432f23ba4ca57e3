//! SMTP replies: what senders meet, and the texts they search for.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// An enhanced status code (RFC 3463): class, subject, detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Enhanced(pub u8, pub u16, pub u16);

impl fmt::Display for Enhanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// One reply of ours. Lines hold no control characters: what a peer sent is cleaned on the way in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    pub code: u16,
    /// Absent in the greeting, and in answers to EHLO and HELO (RFC 2034 §4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enhanced: Option<Enhanced>,
    /// At least one line.
    pub lines: Vec<Cow<'static, str>>,
}

/// The longest text of one reply line, in bytes: RFC 5321 §4.5.3.1.5 allows 512 with code and CRLF.
const LINE_MAX: usize = 480;

impl Reply {
    /// A reply of one line.
    pub fn new(code: u16, enhanced: Enhanced, text: impl Into<Cow<'static, str>>) -> Reply {
        Reply { code, enhanced: Some(enhanced), lines: vec![printable(text.into())] }
    }

    /// A reply without an enhanced code, of one line or several.
    pub fn plain(code: u16, lines: impl IntoIterator<Item = impl Into<Cow<'static, str>>>) -> Reply {
        let lines: Vec<_> = lines.into_iter().map(|line| printable(line.into())).collect();
        Reply { code, enhanced: None, lines }
    }

    pub fn is_positive(&self) -> bool {
        self.code < 400
    }

    pub fn is_temporary(&self) -> bool {
        (400..500).contains(&self.code)
    }

    pub fn is_permanent(&self) -> bool {
        self.code >= 500
    }

    /// The bytes for the wire, CRLF included.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut wire = String::new();
        for (place, line) in self.lines.iter().enumerate() {
            let mark = if place + 1 < self.lines.len() { '-' } else { ' ' };
            match self.enhanced {
                Some(enhanced) => wire.push_str(&format!("{}{mark}{enhanced} {line}\r\n", self.code)),
                None => wire.push_str(&format!("{}{mark}{line}\r\n", self.code)),
            }
        }
        wire.into_bytes()
    }
}

/// On one line, as logs and tables show it.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        self.lines.iter().try_for_each(|line| write!(f, " {line}"))
    }
}

/// Nothing that a peer sent may start a new reply line or reach a terminal as a control character.
fn printable(text: Cow<'static, str>) -> Cow<'static, str> {
    let short = match text.char_indices().map(|(at, letter)| at + letter.len_utf8()).take_while(|end| *end <= LINE_MAX).last() {
        Some(end) if end < text.len() => Cow::Owned(text[..end].to_owned()),
        _ => text,
    };
    if short.chars().any(char::is_control) { Cow::Owned(short.replace(char::is_control, "?")) } else { short }
}

/// The replies of the contract, in the order in which a session can meet them.
impl Reply {
    pub fn ok() -> Reply {
        Reply::new(250, Enhanced(2, 0, 0), "Ok")
    }

    pub fn queued(id: super::QueueId) -> Reply {
        Reply::new(250, Enhanced(2, 0, 0), format!("Ok: queued as {id}"))
    }

    pub fn too_many_connections() -> Reply {
        Reply::new(421, Enhanced(4, 7, 0), "Too many connections from your address, try again later")
    }

    pub fn server_full() -> Reply {
        Reply::new(421, Enhanced(4, 7, 0), "Too many connections, try again later")
    }

    pub fn not_served() -> Reply {
        Reply::new(553, Enhanced(5, 7, 1), "Sorry, that domain isn't in my list of allowed rcpthosts")
    }

    pub fn greylisted(seconds: u64) -> Reply {
        Reply::new(451, Enhanced(4, 7, 1), format!("Greylisted, please try again in {seconds} seconds"))
    }

    pub fn too_many_recipients() -> Reply {
        Reply::new(452, Enhanced(4, 5, 3), "Too many recipients, send the rest in another transaction")
    }

    pub fn too_large(limit: u64) -> Reply {
        Reply::new(552, Enhanced(5, 3, 4), format!("Message is larger than the limit of {limit} bytes"))
    }

    pub fn too_many_hops() -> Reply {
        Reply::new(554, Enhanced(5, 4, 6), "Too many Received headers: this message goes in circles")
    }

    pub fn infected(name: &str) -> Reply {
        Reply::new(554, Enhanced(5, 7, 1), format!("Virus found: {name}"))
    }

    pub fn spam() -> Reply {
        Reply::new(550, Enhanced(5, 7, 1), "Message refused as spam")
    }

    pub fn dmarc(author: &super::Domain) -> Reply {
        Reply::new(550, Enhanced(5, 7, 26), format!("Message rejected by the DMARC policy of {author}"))
    }

    /// For the client's own check, in the words of the contract.
    pub fn no_reverse_name() -> Reply {
        Reply::new(550, Enhanced(5, 7, 1), "Client host rejected: cannot find your reverse hostname")
    }

    /// DNS did not answer: never a permanent refusal.
    pub fn no_reverse_name_yet() -> Reply {
        Reply::new(450, Enhanced(4, 7, 1), "Client host rejected: cannot find your reverse hostname")
    }

    pub fn may_be_forged(name: &super::Domain) -> Reply {
        Reply::new(550, Enhanced(5, 7, 1), format!("Client host rejected: {name} may be forged (its address is not yours)"))
    }

    pub fn dynamic_name(name: &super::Domain) -> Reply {
        let text = format!("Client host rejected: {name} looks like a dial-up or DSL line; use your provider's mail relay");
        Reply::new(550, Enhanced(5, 7, 1), text)
    }

    pub fn helo_mismatch(helo: &str, client: std::net::IpAddr) -> Reply {
        let text = format!("EHLO rejected: inconsistent hostname / IP address {helo} [{client}]");
        Reply::new(550, Enhanced(5, 7, 1), text)
    }

    pub fn no_such_recipient(address: &super::Address) -> Reply {
        Reply::new(550, Enhanced(5, 1, 1), format!("<{address}>: No such user here"))
    }

    /// RFC 3463 §3.5: X.4.3, the directory that knows does not answer.
    pub fn recipient_not_known_yet(address: &super::Address) -> Reply {
        Reply::new(450, Enhanced(4, 4, 3), format!("<{address}> cannot be verified right now, please try again later"))
    }

    /// For a customer's own server that sends out with somebody else's address.
    pub fn not_your_sender(sender: &super::Address, domains: &str) -> Reply {
        let text = format!("Sender <{sender}> refused: your server may send out through here with addresses at {domains} only");
        Reply::new(553, Enhanced(5, 7, 1), text)
    }

    pub fn no_reports_from_you() -> Reply {
        Reply::new(550, Enhanced(5, 7, 1), "Reports are taken from the mail servers of customers only")
    }

    pub fn reports_go_alone() -> Reply {
        Reply::new(452, Enhanced(4, 5, 3), "Reports and other mail cannot share a transaction, send the rest in another one")
    }

    pub fn too_fast() -> Reply {
        Reply::new(450, Enhanced(4, 7, 1), "Too much from you in a short time, try again later")
    }

    pub fn banned() -> Reply {
        Reply::new(421, Enhanced(4, 7, 0), "Your address is blocked for now, try again later")
    }

    pub fn disk_full() -> Reply {
        Reply::new(452, Enhanced(4, 3, 1), "Insufficient system storage")
    }

    /// The generic answer when it is our fault; the cause goes to the log only.
    pub fn local_error() -> Reply {
        Reply::new(451, Enhanced(4, 3, 0), "Temporary local problem, please try again later")
    }

    pub fn shutting_down() -> Reply {
        Reply::new(421, Enhanced(4, 3, 2), "Service is restarting, please try again")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_lines_carry_the_code_on_each() {
        let reply = Reply::plain(250, ["mx1.isp.example", "PIPELINING", "SIZE 52428800"]);
        assert_eq!(reply.to_wire(), b"250-mx1.isp.example\r\n250-PIPELINING\r\n250 SIZE 52428800\r\n");
    }

    #[test]
    fn a_peers_text_cannot_break_out_of_its_line() {
        let reply = Reply::infected("Eicar\r\n250 Ok\x1b[2J");
        assert_eq!(reply.to_wire(), b"554 5.7.1 Virus found: Eicar??250 Ok?[2J\r\n");
        assert!(Reply::infected(&"ä".repeat(4000)).to_wire().len() <= 512);
    }
}
