//! RECEIVE, in detail: the questions that a recipient must pass, in the order in which they are asked, and who may ask for mail.
//!
//! The cheap and the final come first, what may change with time comes last. Whatever cannot be found out lets the client pass:
//! nothing here loses mail. The domain's own settings count, so these questions are asked at RCPT and not before.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Flow;
use crate::checks::{ClientReport, Existence, GreylistAnswer, Newcomer, Passed, SpfProof};
use crate::config::{CheckModes, Config, DomainConfig, Greylisting, HopHost, NextHop, RecipientCheck};
use crate::mail::{
    Address, Authentication, Client, Domain, Enhanced, Envelope, Host, Mailbox, Outcome, Reply, ReversePath, SessionId,
};
use crate::queue::{By, Delivery, Drain};

/// How long greylisting waits for SPF; who is not proven by then waits like everybody else.
const SPF_PATIENCE: Duration = Duration::from_secs(5);

/// `::ffff:192.0.2.1` is how a socket for both families shows 192.0.2.1.
fn is_same(one: IpAddr, other: IpAddr) -> bool {
    one.to_canonical() == other.to_canonical()
}

/// The mailbox a recipient means, when mail for it is taken here: a served domain, our own postmaster (RFC 5321 §4.5.1), or
/// anywhere in the world for a customer's own server.
pub(super) fn served(config: &Config, client: &Client, from: &ReversePath, mailbox: Mailbox) -> Result<Address, Reply> {
    let no_postmaster = || Reply::new(550, Enhanced(5, 1, 1), "No postmaster mailbox is configured here");
    let address = match mailbox {
        Mailbox::Postmaster => return config.postmaster.clone().ok_or_else(no_postmaster),
        Mailbox::Address(address) => address,
    };
    match address.domain() {
        // The customer's server trusts us: what it would pass on for us, it would pass on for everybody.
        Some(domain) if config.domain(domain).is_some() && leads_on(address.local()) => Err(Reply::not_served()),
        Some(domain) if config.domain(domain).is_some() => Ok(address),
        Some(domain) if *domain == config.hostname && address.is_postmaster() => {
            config.postmaster.clone().ok_or_else(no_postmaster)
        }
        // To an address literal nobody has a need to write, and it may be one of our own network's.
        Some(domain) if *domain != config.hostname => may_send_out(config, client, from).map(|()| address),
        _ => Err(Reply::not_served()),
    }
}

/// Whether a local part names a way to somewhere else: `user%other.example`, `other.example!user`, `user@other.example`. Old
/// servers follow such ways, and Postfix does by default when it trusts the client.
fn leads_on(local: &str) -> bool {
    let is_elsewhere = |hop: &str| hop.starts_with('[') || hop.contains('.') && hop.parse::<Host>().is_ok();
    let mut hops = local.rsplit('!');
    hops.next();
    local.contains('@') || hops.any(is_elsewhere) || local.split('%').skip(1).any(is_elsewhere)
}

/// Whether a customer's own server sends out through us: it stands in `relay_from` of the sender's domain. Its bounces have no
/// sender: they may go out when it stands there for any domain. Such mail is not greylisted, and its client is not checked.
pub(super) fn sends_out(config: &Config, client: &Client, from: &ReversePath) -> bool {
    match from {
        ReversePath::Null => config.domains.values().any(|domain| relays_for(domain, client)),
        ReversePath::Address(sender) => {
            sender.domain().and_then(|domain| config.domain(domain)).is_some_and(|domain| relays_for(domain, client))
        }
    }
}

pub(super) fn relays_for(domain: &DomainConfig, client: &Client) -> bool {
    let address = client.address.to_canonical();
    domain.relay_from.iter().any(|network| network.contains(&address))
}

/// Domains named in a refusal at most.
const DOMAINS_NAMED: usize = 3;

fn may_send_out(config: &Config, client: &Client, from: &ReversePath) -> Result<(), Reply> {
    if sends_out(config, client, from) {
        return Ok(());
    }
    let its = config.domains.iter().filter(|(_, settings)| relays_for(settings, client)).map(|(domain, _)| domain.as_str());
    let its: Vec<_> = its.take(DOMAINS_NAMED).collect();
    match from.address() {
        Some(sender) if !its.is_empty() => Err(Reply::not_your_sender(sender, &its.join(", "))),
        _ => Err(Reply::not_served()),
    }
}

/// How a domain wants clients to be checked.
fn modes_of(config: &Config, to: &Address) -> CheckModes {
    to.domain().and_then(|domain| config.domain(domain)).map_or(config.checks.modes, |domain| domain.checks)
}

/// The domains in the evidence of `dkim-pass`, which are separated by commas. A long list has been cut, perhaps inside its last name.
fn signers(evidence: &str) -> impl Iterator<Item = Domain> {
    const CUT_FROM: usize = 190;
    let whole = if evidence.len() < CUT_FROM { evidence } else { evidence.rsplit_once(',').map_or("", |(whole, _)| whole) };
    whole.split(',').filter_map(|name| Domain::parse(name.trim()).ok()).filter(|name| name.as_str().contains('.'))
}

impl Flow {
    /// What DNS and greeting say about the client, by the words of the domain that it writes to.
    pub(super) async fn welcome(
        &self,
        config: &Config,
        sid: SessionId,
        client: &Client,
        to: &Address,
    ) -> Result<Arc<ClientReport>, Reply> {
        if config.allows(client.address) {
            return Ok(Arc::default());
        }
        let modes = modes_of(config, to);
        let report = self.checks.clients.report(config, client.address, &client.helo).await.under(&[modes]);
        let Some(reply) = report.refusal(&modes, client) else { return Ok(report) };
        self.maillog.client(self.now(), sid, client.address, report.faults(client));
        Err(reply)
    }

    /// Whether the customer has such a mailbox. The null sender gets the same answer as everybody: callouts of others want it.
    pub(super) async fn exists(&self, config: &Arc<Config>, to: &Address) -> Result<(), Reply> {
        let Some(domain) = to.domain().filter(|domain| config.domain(domain).is_some()) else { return Ok(()) };
        let existence = self.checks.recipients.exists(config, to, self.queue.is_away(domain)).await;
        self.maillog.metrics().recipient_checked(existence.as_str(), existence.ground().as_str());
        match existence {
            Existence::Exists(_) => Ok(()),
            Existence::Unknown(_) => Err(Reply::no_such_recipient(to)),
            Existence::NotYet(_) => Err(Reply::recipient_not_known_yet(to)),
        }
    }

    /// A customer's own server has sent out a message that is durable now: to whom it wrote may answer without waiting.
    pub(super) async fn sent_out(&self, envelope: &Envelope) {
        self.maillog.metrics().sent_out(envelope.recipients.len());
        let Some(from) = envelope.reverse_path.address().and_then(Address::domain) else { return };
        for recipient in envelope.recipients.iter().filter(|recipient| recipient.address.domain() != Some(from)) {
            self.checks.greylist.correspondents.wrote(from, &recipient.address, self.now()).await;
        }
    }

    /// What the end of a delivery tells about the customer's mailboxes. A server that an operator named instead tells nothing.
    pub(super) fn lesson(&self, delivery: &Delivery, outcomes: &[Outcome]) -> Option<(Vec<Address>, Vec<Outcome>)> {
        let Host::Domain(domain) = &delivery.destination else { return None };
        let settings = self.config();
        settings.domain(domain).filter(|settings| settings.recipients.check == RecipientCheck::Callout)?;
        if delivery.reroute().is_some() {
            return None;
        }
        let recipients = &delivery.entry.envelope.recipients;
        Some((delivery.recipients.iter().map(|index| recipients[*index].address.clone()).collect(), outcomes.to_vec()))
    }

    /// A first try of somebody new is put off.
    pub(super) async fn greylisted(
        &self,
        config: &Config,
        sid: SessionId,
        client: &Client,
        report: &ClientReport,
        from: &ReversePath,
        to: &Address,
    ) -> Result<(), Reply> {
        let Some(domain) = to.domain().and_then(|domain| config.domain(domain)) else { return Ok(()) };
        if domain.greylist == Greylisting::Off || config.allows(client.address) {
            return Ok(());
        }
        let newcomer = Newcomer::new(client, report, from, to, domain.greylist);
        // Asked only when nothing cheaper lets it pass.
        let spf = self.spf_proof(client, from);
        let now = self.now();
        match self.checks.greylist.check(&config.greylist, &newcomer, spf, now).await {
            GreylistAnswer::Pass(why) => {
                self.maillog.metrics().greylist_passed(why.as_str());
                if let Passed::CameBack { after } = why {
                    self.maillog.came_back(now, sid, client.address, from, &to.to_string(), after);
                }
                Ok(())
            }
            GreylistAnswer::Wait { seconds, tries } => {
                if tries == 1 {
                    self.maillog.metrics().greylist_first_try();
                }
                self.maillog.greylisted(now, sid, client.address, from, &to.to_string(), seconds);
                Err(Reply::greylisted(seconds))
            }
        }
    }

    /// What SPF says of the sender, when DNS answers in time.
    async fn spf_proof(&self, client: &Client, from: &ReversePath) -> SpfProof {
        tokio::select! {
            spf = self.checks.authenticator.spf(client.address, &client.helo, from) => SpfProof::of(spf.result.as_str()),
            () = self.clock.sleep_until(self.now() + SPF_PATIENCE) => SpfProof::Unknown,
        }
    }

    /// By whom a message is signed tells greylisting whose mail comes from there.
    pub(super) async fn remember_signers(&self, envelope: &Envelope, authentication: &Authentication) {
        let config = self.config();
        for finding in authentication.findings.iter().filter(|finding| finding.id == "dkim-pass") {
            for signer in signers(&finding.evidence) {
                let Envelope { client, reverse_path, .. } = envelope;
                self.checks.greylist.signed(&config.greylist, client, reverse_path, &signer, self.now()).await;
            }
        }
    }

    /// Before the message is judged: what is known about its client by now, as far as one of the domains asks for it.
    pub(super) async fn describe_client(&self, envelope: &mut Envelope) {
        let config = self.config();
        let modes: Vec<CheckModes> = envelope.recipients.iter().map(|recipient| modes_of(&config, &recipient.address)).collect();
        let client = &mut envelope.client;
        let report = self.checks.clients.report(&config, client.address, &client.helo).await.under(&modes);
        self.maillog.client(self.now(), envelope.id, client.address, report.faults(client));
        (client.reverse_name, client.reverse_confirmed) = (report.name.clone(), report.confirmed);
        client.findings.extend(report.findings.iter().cloned());
    }

    /// ETRN (RFC 1985): a customer's server is back and asks for its mail. Only for the servers that the domain's settings name,
    /// known by their address.
    pub async fn drain(&self, sid: SessionId, client: &Client, argument: &str) -> Reply {
        let refuse = |reply: Reply| {
            self.maillog.refused(self.now(), sid, client.address, "command", None, Some(argument), &reply);
            reply
        };
        // RFC 1985 §5.3: `@domain` would mean its subdomains too, `#name` a queue; neither exists here.
        let Ok(domain) = argument.parse::<Domain>() else {
            return refuse(Reply::new(501, Enhanced(5, 5, 4), "Syntax: ETRN domain"));
        };
        if !self.is_server_of(client.address, &domain).await {
            return refuse(Reply::new(459, Enhanced(4, 7, 1), "This is not yours to ask for"));
        }
        let by = By { name: format!("the server {}", client.address.to_canonical()), reason: "ETRN".to_owned() };
        match self.queue.drain(&domain, by) {
            Drain::Started => Reply::new(250, Enhanced(2, 0, 0), format!("Ok, queue for {domain} started")),
            Drain::TooSoon => {
                refuse(Reply::new(458, Enhanced(4, 4, 5), format!("The queue for {domain} was started a moment ago")))
            }
        }
    }

    /// Whether a client at this address may be offered ETRN: some domain's settings name the address itself.
    pub fn is_server(&self, client: IpAddr) -> bool {
        let names_it = |hop: &NextHop| matches!(hop.host, HopHost::Address(address) if is_same(address, client));
        self.config().domains.values().any(|domain| domain.deliver_to.iter().any(names_it))
    }

    pub(super) async fn is_server_of(&self, client: IpAddr, domain: &Domain) -> bool {
        let config = self.config();
        let Some(settings) = config.domain(domain) else { return false };
        for hop in &settings.deliver_to {
            let is_it = match &hop.host {
                HopHost::Address(address) => is_same(*address, client),
                HopHost::Name(name) => {
                    let addresses = self.resolver.addresses(name).await.unwrap_or_default();
                    addresses.iter().any(|address| is_same(*address, client))
                }
            };
            if is_it {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signers_are_read_from_a_finding() {
        let read = |evidence: &str| signers(evidence).map(|domain| domain.to_string()).collect::<Vec<_>>();
        assert_eq!(read("sender.example, list.example"), ["sender.example", "list.example"]);
        assert_eq!(read(""), [""; 0]);
        assert_eq!(read("x, a..b, [192.0.2.1]"), [""; 0]);
        let long = format!("sender.example, {}", "very-long.".repeat(19));
        assert_eq!(read(&long), ["sender.example"], "the last one may have lost its end");
    }
}
