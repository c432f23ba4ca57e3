//! Explained: a refusal for policy carries a link to a page that says what was seen and what can be done about it, when
//! `admin.public_url` is set. The reply says the same with and without it; without a link nothing is lost but the explanation.

use std::borrow::Cow;
use std::net::IpAddr;

use super::Flow;
use crate::checks::{Case, Kind};
use crate::mail::{Authentication, Client, Domain, Envelope, Finding, Mailbox, Reply, ReversePath};
use crate::smtp::Incoming;

/// The domain written to: all that a case keeps of a recipient.
pub(super) fn written_to(incoming: &Incoming) -> Option<Domain> {
    match &incoming.mailbox {
        Mailbox::Address(address) => address.domain().cloned(),
        Mailbox::Postmaster => None,
    }
}

impl Flow {
    /// A recipient was refused.
    pub(super) async fn explained(&self, client: &Client, from: &ReversePath, to: Option<Domain>, reply: Reply) -> Reply {
        if !self.explains(&reply) {
            return reply;
        }
        let config = self.config();
        let mut client = client.clone();
        if !config.allows(client.address) {
            // Asked before, mostly: then this costs nothing.
            let report = self.checks.clients.report(&config, client.address, &client.helo).await;
            (client.reverse_name, client.reverse_confirmed) = (report.name.clone(), report.confirmed);
            client.findings.extend(report.findings.iter().cloned());
        }
        if Kind::of(&reply) == Some(Kind::Greylisted) {
            // Greylisting has asked a moment ago.
            let spf = self.checks.authenticator.spf(client.address, &client.helo, from).await;
            let domain = spf.domain.as_ref().map_or("", Domain::as_str);
            client.findings.push(Finding::new(&format!("spf-{}", spf.result.as_str()), domain));
        }
        let case = Case::new(self.now(), &client, from, to, &reply);
        let waiting = case.map(|case| match (case.kind, seconds(&reply)) {
            (Kind::Greylisted, Some(seconds)) => case.with_wait(seconds, config.greylist.delay),
            _ => case,
        });
        self.with_link(waiting, reply).await
    }

    /// A client was refused before it said anything. Nothing is asked about it: those that are banned come in floods.
    pub async fn explained_at_door(&self, address: IpAddr, reply: Reply) -> Reply {
        if !self.explains(&reply) {
            return reply;
        }
        let case = Case::new(self.now(), &Client::new(address), &ReversePath::Null, None, &reply);
        self.with_link(case, reply).await
    }

    /// A message was refused, for all its recipients.
    pub(super) async fn explained_content(&self, envelope: &Envelope, found: &Authentication, reply: Reply) -> Reply {
        if !self.explains(&reply) {
            return reply;
        }
        let to = envelope.recipients.first().and_then(|recipient| recipient.address.domain()).cloned();
        let case = Case::new(self.now(), &envelope.client, &envelope.reverse_path, to, &reply);
        self.with_link(case.map(|case| case.with_results(&found.results, &found.findings)), reply).await
    }

    /// There is a page, and something to say on it.
    fn explains(&self, reply: &Reply) -> bool {
        let admin = &self.config().admin;
        admin.public_url.is_some() && admin.listen.is_some() && Kind::of(reply).is_some()
    }

    /// The link stands on a line of its own, so that it is never cut.
    async fn with_link(&self, case: Option<Case>, mut reply: Reply) -> Reply {
        let config = self.config();
        let (Some(case), Some(public_url)) = (case, &config.admin.public_url) else { return reply };
        if let Some(link) = self.checks.cases.record(public_url, &case).await {
            self.maillog.metrics().explained();
            reply.lines.push(Cow::Owned(format!("see {link}")));
        }
        reply
    }
}

/// Of `Greylisted, please try again in 300 seconds`.
fn seconds(reply: &Reply) -> Option<u64> {
    reply.lines.first()?.split_ascii_whitespace().find_map(|word| word.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_read_from_our_own_words() {
        assert_eq!(seconds(&Reply::greylisted(300)), Some(300));
        assert_eq!(seconds(&Reply::no_reverse_name()), None);
    }
}
