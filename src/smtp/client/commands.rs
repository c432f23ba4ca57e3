//! The command lines of a transaction. Parameters go out only where the peer offers their extension.
//!
//! Nothing of a sender's making can end a line or a path early: addresses are written by `Address`, which quotes; ENVID and
//! ORCPT, kept as they came, are left out when they hold anything but printable ASCII.

use smtp_proto::{EXT_8BIT_MIME, EXT_CHUNKING, EXT_DSN, EXT_PIPELINING, EXT_SIZE, EXT_SMTP_UTF8, EXT_START_TLS, EhloResponse};

use crate::mail::{BodyKind, Envelope, Notify, Recipient, Ret};

/// What the peer offers, of what is used here. All absent after HELO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    pub start_tls: bool,
    pub pipelining: bool,
    pub chunking: bool,
    pub eight_bit_mime: bool,
    pub smtputf8: bool,
    pub dsn: bool,
    pub size: bool,
    /// The largest message it takes, in bytes, when it says so.
    pub size_max: Option<u64>,
}

/// RFC 5321 §4.5.3.1.7: every server takes that much. A smaller limit is a number that was misread (0 means none, and
/// smtp-proto 0.2.5 wraps what does not fit into 64 bits): better let the peer say no itself.
const SIZE_CREDIBLE: u64 = 64 * 1024;

impl Extensions {
    pub fn from_ehlo(response: &EhloResponse<String>) -> Extensions {
        Extensions {
            start_tls: response.has_capability(EXT_START_TLS),
            pipelining: response.has_capability(EXT_PIPELINING),
            chunking: response.has_capability(EXT_CHUNKING),
            eight_bit_mime: response.has_capability(EXT_8BIT_MIME),
            smtputf8: response.has_capability(EXT_SMTP_UTF8),
            dsn: response.has_capability(EXT_DSN),
            size: response.has_capability(EXT_SIZE),
            size_max: Some(response.size as u64).filter(|size| *size >= SIZE_CREDIBLE),
        }
    }
}

/// MAIL for a message whose outgoing form has `size` bytes. Whether the addresses fit this peer was checked before.
pub(super) fn mail(envelope: &Envelope, size: u64, extensions: &Extensions) -> String {
    let parameters = &envelope.parameters;
    let mut line = format!("MAIL FROM:<{}>", envelope.reverse_path);
    if extensions.size {
        line.push_str(&format!(" SIZE={size}"));
    }
    // To a peer without 8BITMIME the text goes as it is: every server of today passes it, and recoding it would break
    // signatures (RFC 6152 §3 asks for one or a bounce).
    if extensions.eight_bit_mime && parameters.body == BodyKind::EightBitMime {
        line.push_str(" BODY=8BITMIME");
    }
    let utf8_address = envelope.reverse_path.address().is_some_and(|address| address.needs_smtputf8())
        || envelope.recipients.iter().any(|recipient| recipient.address.needs_smtputf8());
    if extensions.smtputf8 && (parameters.smtputf8 || utf8_address) {
        line.push_str(" SMTPUTF8");
    }
    if extensions.dsn {
        match parameters.ret {
            Some(Ret::Full) => line.push_str(" RET=FULL"),
            Some(Ret::Headers) => line.push_str(" RET=HDRS"),
            None => {}
        }
        if let Some(envid) = parameters.envid.as_deref().filter(|envid| is_parameter_value(envid)) {
            line.push_str(&format!(" ENVID={envid}"));
        }
    }
    line + "\r\n"
}

/// RCPT for one recipient.
pub(super) fn rcpt(recipient: &Recipient, extensions: &Extensions) -> String {
    let mut line = format!("RCPT TO:<{}>", recipient.address);
    if extensions.dsn {
        if let Some(notify) = recipient.notify.and_then(notify_value) {
            line.push_str(&format!(" NOTIFY={notify}"));
        }
        if let Some(orcpt) = recipient.orcpt.as_deref().filter(|orcpt| is_parameter_value(orcpt)) {
            line.push_str(&format!(" ORCPT={orcpt}"));
        }
    }
    line + "\r\n"
}

/// `None` when nothing was asked for, which NOTIFY cannot say.
fn notify_value(notify: Notify) -> Option<String> {
    let Notify::On { success, failure, delay } = notify else {
        return Some("NEVER".to_owned());
    };
    let wishes: Vec<_> = [(success, "SUCCESS"), (failure, "FAILURE"), (delay, "DELAY")]
        .into_iter()
        .filter_map(|(wished, word)| wished.then_some(word))
        .collect();
    (!wishes.is_empty()).then(|| wishes.join(","))
}

/// esmtp-value of RFC 5321 §4.1.2, which xtext is made of; = excepted there, but seen in ENVID and harmless.
fn is_parameter_value(text: &str) -> bool {
    !text.is_empty() && text.len() <= 500 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::super::tests::envelope;
    use super::*;
    use crate::mail::Address;

    fn everything() -> Extensions {
        Extensions { eight_bit_mime: true, smtputf8: true, dsn: true, size: true, ..Extensions::default() }
    }

    #[test]
    fn parameters_go_only_to_peers_that_offer_them() {
        let mut envelope = envelope("joe@sender.example", &["a@customer.example"]);
        envelope.parameters.body = BodyKind::EightBitMime;
        envelope.parameters.smtputf8 = true;
        envelope.parameters.ret = Some(Ret::Headers);
        envelope.parameters.envid = Some("QQ+2B7".into());
        envelope.recipients[0].notify = Some(Notify::On { success: true, failure: true, delay: false });
        envelope.recipients[0].orcpt = Some("rfc822;a@customer.example".into());
        assert_eq!(
            mail(&envelope, 42, &everything()),
            "MAIL FROM:<joe@sender.example> SIZE=42 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ+2B7\r\n"
        );
        assert_eq!(
            rcpt(&envelope.recipients[0], &everything()),
            "RCPT TO:<a@customer.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a@customer.example\r\n"
        );
        assert_eq!(mail(&envelope, 42, &Extensions::default()), "MAIL FROM:<joe@sender.example>\r\n");
        assert_eq!(rcpt(&envelope.recipients[0], &Extensions::default()), "RCPT TO:<a@customer.example>\r\n");
    }

    #[test]
    fn the_null_sender_has_an_empty_path() {
        assert_eq!(mail(&envelope("", &["a@customer.example"]), 1, &Extensions::default()), "MAIL FROM:<>\r\n");
    }

    #[test]
    fn nothing_a_sender_wrote_becomes_a_parameter_or_a_command() {
        let mut recipient = Recipient::new(Address::parse("\"a> SIZE=1 <x\\\"\"@customer.example").unwrap());
        recipient.orcpt = Some("rfc822;a\r\nRSET".into());
        recipient.notify = Some(Notify::On { success: false, failure: false, delay: false });
        assert_eq!(rcpt(&recipient, &everything()), "RCPT TO:<\"a> SIZE=1 <x\\\"\"@customer.example>\r\n");
        let mut envelope = envelope("", &["a@customer.example"]);
        envelope.parameters.envid = Some("x BODY=8BITMIME".into());
        assert_eq!(mail(&envelope, 1, &everything()), "MAIL FROM:<> SIZE=1\r\n");
    }

    #[test]
    fn a_size_limit_that_cannot_be_meant_is_not_believed() {
        let limit = |size| Extensions::from_ehlo(&EhloResponse { size, ..EhloResponse::default() }).size_max;
        assert_eq!(limit(0), None);
        assert_eq!(limit(9), None);
        assert_eq!(limit(37_748_736), Some(37_748_736));
    }
}
