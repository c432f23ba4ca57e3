//! A question without a message: would this host take mail for an address? MAIL and RCPT, one at a time, never pipelined
//! (Exchange 2010 mixes up its replies to a pipelined group when its tarpit is off, KB 2398431).
//!
//! It says what the host said; what that means for the address is decided elsewhere.

use crate::mail::{Address, Outcome};

use super::Connection;

impl Connection {
    /// The host's reply to RCPT from the null sender, in one line: `550 5.1.1 User unknown`. `Err`: it was not asked, or gave
    /// no answer, and why.
    ///
    /// Each address has a transaction of its own: some hosts take one recipient only from the null sender.
    pub async fn would_take(&mut self, address: &Address) -> Result<String, String> {
        if address.needs_smtputf8() && !self.extensions.smtputf8 {
            return Ok(format!("550 5.6.7 {} does not take addresses with such letters (SMTPUTF8)", self.host));
        }
        self.ask(address)
            .await
            .map_err(|(Outcome::Retry { reply, .. } | Outcome::Failed { reply, .. } | Outcome::Delivered { reply, .. })| reply)
    }

    async fn ask(&mut self, address: &Address) -> Result<String, Outcome> {
        self.messages += 1;
        self.begin().await?;
        let parameter = if address.needs_smtputf8() { " SMTPUTF8" } else { "" };
        self.say(&format!("MAIL FROM:<>{parameter}\r\n")).await?;
        self.sender_reply().await??;
        self.say(&format!("RCPT TO:<{address}>\r\n")).await?;
        Ok(self.recipient_reply().await?.text)
    }
}
