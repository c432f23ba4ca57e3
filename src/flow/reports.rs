//! RECEIVE, in detail: users' reports. Somebody forwards a message as an attachment to one of two addresses of the platform, and
//! what is attached is learned as spam or as wanted, for the domain of who forwards it.
//!
//! Who may: a customer's server, known by its address (`deliver_to`, `relay_from` of the author's domain); or anybody whose message
//! is proven to be of a served domain, as for customers whose provider sends from other hosts than it receives at. Strangers
//! teach nobody anything: they are refused before they send a text, or at its end when the proof is not there.
//!
//! A report is not a message: it is neither queued nor delivered, so no virus scan is owed to it. What is attached is made into
//! tokens and thrown away. Nor is it greylisted: its servers are known, and others must prove whose they are.
//!
//! What happens on failure: 250 is said after the lessons are durable. A crash before the reply brings the report again, which changes
//! nothing: the same message counts once. What cannot be learned now (the disk, DNS, too many reports) is answered 4xx, and the
//! customer's server keeps it.

use super::lessons::tags;
use super::{Flow, door};
use crate::config::Config;
use crate::mail::{
    Address, Client, Domain, Enhanced, Envelope, Finding, HeaderSection, Recipient, Reply, ReversePath, SessionId,
};
use crate::outside::Body;
use crate::spam::{Authors, Facts, Label, Proof};
use crate::store::{StoreError, Taught};

use super::LessonError;

/// Why a report is not taken: what its sender is told.
struct Refused(Reply);

/// The one who reports, and for which of the served domains.
struct Reporter {
    author: Address,
    domain: Domain,
}

impl Flow {
    /// Recipient: whether this client may report at all. That it may for its author's domain is found out at the end of data.
    pub(super) async fn may_report(
        &self,
        config: &Config,
        sid: SessionId,
        client: &Client,
        from: &ReversePath,
        to: &Address,
    ) -> Result<(), Reply> {
        let sender = from.address().and_then(Address::domain).filter(|domain| config.domain(domain).is_some());
        let is_customers = match sender {
            Some(domain) => self.is_theirs(config, client, domain).await,
            None => false,
        };
        // Without asking DNS for the hosts of all domains, which a stranger could make us do again and again.
        let is_named =
            || self.is_server(client.address) || config.domains.values().any(|domain| door::relays_for(domain, client));
        if !is_customers && !is_named() {
            // Its signature may still prove it.
            if sender.is_none() {
                return Err(Reply::no_reports_from_you());
            }
            self.welcome(config, sid, client, to).await?;
        }
        self.within_limits(config, client)
    }

    /// One reply answers for all recipients of a message, and a report is not delivered to others: each goes alone, and the
    /// client sends the rest in another transaction.
    pub fn goes_with(
        &self,
        sid: SessionId,
        client: &Client,
        from: &ReversePath,
        others: &[Recipient],
        recipient: Recipient,
    ) -> Result<Recipient, Reply> {
        let reports = &self.config().reports;
        let label_of = |recipient: &Recipient| reports.label_of(&recipient.address);
        let label = label_of(&recipient);
        if others.iter().all(|other| label_of(other) == label) {
            return Ok(recipient);
        }
        let reply = Reply::reports_go_alone();
        self.maillog.refused(self.now(), sid, client.address, "rcpt", Some(from), Some(&recipient.address.to_string()), &reply);
        Err(reply)
    }

    /// What the message says of those attached to it, when it is a report.
    pub(super) fn label_of(&self, envelope: &Envelope) -> Option<Label> {
        self.config().reports.label_of(&envelope.recipients.first()?.address)
    }

    /// A report has arrived: the reply to the end of data.
    pub(super) async fn reported(&self, envelope: &Envelope, body: &Body, label: Label) -> Reply {
        let config = self.config();
        let learned = async {
            let reporter = self.reporter(&config, envelope, body).await?;
            let taught = self.learn_report(&config, envelope, body, label, &reporter).await?;
            Ok::<_, Refused>((reporter, taught))
        };
        let (now, metrics) = (self.now(), self.maillog.metrics());
        match learned.await {
            Ok((Reporter { author, domain }, taught)) => {
                metrics.report(label.as_str(), "learned");
                let learned = learned_words(taught, label, &domain);
                self.maillog.reported(now, envelope, format!("{author}: {learned}"));
                Reply::new(250, Enhanced(2, 0, 0), format!("Ok: {learned}"))
            }
            Err(Refused(reply)) => {
                metrics.report(label.as_str(), if reply.is_temporary() { "later" } else { "refused" });
                let to = envelope.recipients.first().map(|recipient| recipient.address.to_string());
                let (sid, from) = (envelope.id.session, Some(&envelope.reverse_path));
                self.maillog.refused(now, sid, envelope.client.address, "data", from, to.as_deref(), &reply);
                reply
            }
        }
    }

    /// Whose report it is: by the author, whose domain the client must serve or the message be proven to come from.
    async fn reporter(&self, config: &Config, envelope: &Envelope, body: &Body) -> Result<Reporter, Refused> {
        let head = body.head(config.smtp.header_max).await.map_err(|error| local_error(envelope, &error))?;
        // The header section alone: the rest is nobody's business here.
        let head = &head[..HeaderSection::parse(&head).end];
        let author = match &Authors::of(&Facts::gather(envelope, head)).addresses[..] {
            [author] => author.clone(),
            _ => return Err(refused(Enhanced(5, 6, 0), "A report needs one author in From: the user who reports")),
        };
        let served = author.domain().filter(|domain| config.domain(domain).is_some()).cloned();
        let Some(domain) = served else {
            let text = format!("Reports are taken from users of the domains served here; {} is none of them", author.host());
            return Err(refused(Enhanced(5, 7, 1), text));
        };
        if !self.is_theirs(config, &envelope.client, &domain).await {
            self.prove(config, envelope, body, &domain).await?;
        }
        Ok(Reporter { author, domain })
    }

    /// By a valid signature of the domain, or by DMARC. SPF alone does not do: many a domain shares the hosts that it names with
    /// strangers, and what is learned outlives one message. Nor does a seal: users do not report through mailing lists.
    async fn prove(&self, config: &Config, envelope: &Envelope, body: &Body, domain: &Domain) -> Result<(), Refused> {
        let found = self.checks.authenticator.message(envelope, body, &config.checks.trusted_sealers).await.findings;
        let counts = |finding: &&Finding| matches!(finding.id.as_str(), "dkim-pass" | "dmarc-pass");
        let proving: Vec<Finding> = found.iter().filter(counts).cloned().collect();
        if Proof::of(&proving).of_author(domain).is_some() {
            return Ok(());
        }
        let is_open = |finding: &Finding| finding.id.ends_with("-temperror");
        if found.iter().any(is_open) {
            let text = format!("Whether this report is from {domain} cannot be verified right now, please try again later");
            return Err(Refused(Reply::new(451, Enhanced(4, 7, 1), text)));
        }
        Err(refused(
            Enhanced(5, 7, 1),
            format!("Reports are taken from the mail servers of {domain} only, or with its valid DKIM signature"),
        ))
    }

    /// Durable after `Ok`.
    async fn learn_report(
        &self,
        config: &Config,
        envelope: &Envelope,
        body: &Body,
        label: Label,
        Reporter { author, domain }: &Reporter,
    ) -> Result<Taught, Refused> {
        let _reading = self.lessons.reading().await;
        let content = body.head(body.size()).await.map_err(|error| local_error(envelope, &error))?;
        let by = author.to_string();
        let taught = self.lessons.report(domain, content, label, tags(config), &by).await;
        taught.map_err(|error| match error {
            LessonError::NoLesson(why) => {
                refused(Enhanced(5, 6, 0), format!("No message to learn from ({why}): forward it as an attachment"))
            }
            LessonError::TooMany(_) => Refused(Reply::new(450, Enhanced(4, 7, 1), format!("{error}; try again later"))),
            LessonError::Store(StoreError::Full) => Refused(Reply::disk_full()),
            LessonError::Store(_) | LessonError::Closed(_) => local_error(envelope, &error),
        })
    }

    /// Whether a client is one of a domain's servers: where its mail goes to, or from where it sends out.
    async fn is_theirs(&self, config: &Config, client: &Client, domain: &Domain) -> bool {
        config.domain(domain).is_some_and(|settings| door::relays_for(settings, client))
            || self.is_server_of(client.address, domain).await
    }
}

fn refused(enhanced: Enhanced, text: impl Into<std::borrow::Cow<'static, str>>) -> Refused {
    Refused(Reply::new(550, enhanced, text))
}

fn local_error(envelope: &Envelope, error: &dyn std::fmt::Display) -> Refused {
    tracing::error!(id = %envelope.id, %error, "a user's report could not be learned; its server was told to try again");
    Refused(Reply::local_error())
}

/// `learned 2 as spam for customer.example (1 known already)`
fn learned_words(Taught { learned, known, .. }: Taught, label: Label, domain: &Domain) -> String {
    let known = if known > 0 { format!(" ({known} known already)") } else { String::new() };
    format!("learned {learned} as {} for {domain}{known}", label.as_str())
}
