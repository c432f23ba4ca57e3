//! Which recipients exist: a list, or what the customer's server says when it is asked (a callout).
//!
//! It answers one question and remembers; the reply to the client is the flow's business. Who is listed is never asked for.
//! What callouts and deliveries told is remembered: that an address exists for a week, that it does not for two hours. While
//! the customer's server is down nothing of that expires, and nobody is refused for not being known, unless the domain's settings
//! say so. Not knowing is never "unknown": whatever fails here takes the recipient or asks the client to come back.
//!
//! - [`addresses`]: one list in little room; `*`, plus addresses, files.
//! - [`lists`]: those in force, of settings, files and commands.
//! - [`replies`]: what a server's words mean.
//! - [`knowledge`]: what is remembered.
//! - [`desk`]: who may ask the customer's server, and how often.
//! - [`callout`]: the session with it.

mod addresses;
mod callout;
mod desk;
mod knowledge;
mod lists;
mod replies;

use std::sync::Arc;

use crate::config::{Config, DomainConfig, RecipientCheck, Unseen};
use crate::mail::{Address, Domain, Outcome, Timestamp};
use crate::outside::{Clock, Resolver, Transport};
use crate::store::Store;

use callout::Outside;
use desk::{Asked, Desks};
use knowledge::Knowledge;
use lists::Lists;
use replies::Reading;

pub use knowledge::{Known, KnownState, Teacher};
pub use lists::{ChangeError, ListedIn};

/// Whether there is such a mailbox, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Existence {
    Exists(Ground),
    /// There is none: refuse it.
    Unknown(Ground),
    /// It will be known later: the client is to come back.
    NotYet(Ground),
}

impl Existence {
    pub fn as_str(&self) -> &'static str {
        match self {
            Existence::Exists(_) => "exists",
            Existence::Unknown(_) => "unknown",
            Existence::NotYet(_) => "later",
        }
    }

    pub fn ground(&self) -> &Ground {
        let (Existence::Exists(ground) | Existence::Unknown(ground) | Existence::NotYet(ground)) = self;
        ground
    }
}

/// Why, from a closed list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ground {
    /// The domain takes all.
    Unchecked,
    /// Everybody must have it: postmaster, abuse.
    Role,
    Listed(ListedIn),
    NotListed,
    /// The list was never read without mistakes: not to stand in it means nothing.
    ListBroken,
    Remembered(Known),
    /// The server was asked now; its reply.
    Told(String),
    /// Callouts tell nothing.
    TakesEverything,
    /// The server is down, and the address was never seen. What the settings say for that.
    NeverSeen(String),
    /// The server has not answered yet.
    Slow,
    /// Too many questions for the domain.
    TooMany,
}

impl Ground {
    pub fn as_str(&self) -> &'static str {
        match self {
            Ground::Unchecked => "any",
            Ground::Role => "role",
            Ground::Listed(_) | Ground::NotListed => "list",
            Ground::ListBroken => "list-broken",
            Ground::Remembered(_) => "memory",
            Ground::Told(_) => "callout",
            Ground::TakesEverything => "takes-everything",
            Ground::NeverSeen(_) => "never-seen",
            Ground::Slow => "slow",
            Ground::TooMany => "too-many",
        }
    }
}

/// Knows and asks. Cloning shares it.
#[derive(Clone)]
pub struct RecipientDirectory {
    lists: Arc<Lists>,
    knowledge: Knowledge,
    desks: Desks,
    clock: Arc<dyn Clock>,
}

impl RecipientDirectory {
    pub fn new(
        store: &Store,
        clock: Arc<dyn Clock>,
        resolver: Arc<dyn Resolver>,
        transport: Arc<dyn Transport>,
    ) -> RecipientDirectory {
        let knowledge = Knowledge::new(store.memory("recipients"));
        let outside = Outside { clock: Arc::clone(&clock), resolver, transport };
        let desks = Desks::new(outside, knowledge.clone());
        RecipientDirectory { lists: Arc::new(Lists::new(store)), knowledge, desks, clock }
    }

    /// Whether a served domain has such a mailbox. May ask the customer's server, and takes some ten seconds at most.
    /// `is_away`: the server is known not to take mail now.
    pub async fn exists(&self, config: &Arc<Config>, to: &Address, is_away: bool) -> Existence {
        let Some((domain, settings)) = to.domain().and_then(|domain| Some((domain, config.domain(domain)?))) else {
            return Existence::Exists(Ground::Unchecked);
        };
        // RFC 2142: whoever has a domain has these two. Also where an operator's own postmaster is.
        if to.is_postmaster() || to.local().eq_ignore_ascii_case("abuse") || config.postmaster.as_ref() == Some(to) {
            return Existence::Exists(Ground::Role);
        }
        if settings.recipients.check == RecipientCheck::Any {
            return Existence::Exists(Ground::Unchecked);
        }
        let listed = self.lists.of(config, domain, self.clock.now()).await;
        match (listed.find(to.local()), settings.recipients.check) {
            (Some(place), _) => Existence::Exists(Ground::Listed(place)),
            (None, RecipientCheck::List) if listed.is_whole() => Existence::Unknown(Ground::NotListed),
            (None, RecipientCheck::List) => undecided(settings, Ground::ListBroken),
            (None, _) => self.by_callout(config, settings, domain, to, is_away).await,
        }
    }

    async fn by_callout(
        &self,
        config: &Arc<Config>,
        settings: &DomainConfig,
        domain: &Domain,
        to: &Address,
        is_away: bool,
    ) -> Existence {
        let now = self.clock.now();
        let known = self.knowledge.of(to).await;
        match &known {
            // Pinned: while the server is away nothing expires.
            Some(known) if is_away => return remembered(known),
            None if is_away => return undecided(settings, Ground::NeverSeen("the server is down".to_owned())),
            Some(known) if known.is_fresh(now) => {
                if known.wants_refresh(now) {
                    self.desks.ask_for_later(config, settings, domain, to);
                }
                return remembered(known);
            }
            _ => {}
        }
        if self.knowledge.trust(domain).await.is_some_and(|trust| trust.takes_everything && trust.until > now) {
            return Existence::Exists(Ground::TakesEverything);
        }
        let unanswered = match self.desks.ask(config, settings, domain, to).await {
            Asked::Told { reading: Reading::Exists | Reading::Unclear, reply } => return Existence::Exists(Ground::Told(reply)),
            Asked::Told { reading: Reading::Unknown, reply } => return Existence::Unknown(Ground::Told(reply)),
            Asked::Told { reading: Reading::Later, reply: why } | Asked::Failed(why) => {
                undecided(settings, Ground::NeverSeen(why))
            }
            Asked::Slow => Existence::NotYet(Ground::Slow),
            Asked::TooMany => Existence::NotYet(Ground::TooMany),
        };
        match (known, &unanswered) {
            // What was known of it is old by now, and better than nothing.
            (Some(known), Existence::NotYet(Ground::Slow | Ground::TooMany)) if known.state != KnownState::Exists => unanswered,
            (Some(known), _) => remembered(&known),
            (None, _) => unanswered,
        }
    }

    /// The end of a delivery to a domain's own server: one outcome for each recipient.
    pub async fn learned(&self, config: &Config, recipients: &[Address], outcomes: &[Outcome]) {
        let now = self.clock.now();
        for (address, lesson) in recipients.iter().zip(replies::lessons(outcomes)) {
            let Some(domain) = address.domain() else { continue };
            let by_callout = config.domain(domain).is_some_and(|settings| settings.recipients.check == RecipientCheck::Callout);
            let known = lesson.and_then(|(reading, reply)| Known::new(reading, Teacher::Delivery, reply, now));
            let Some(known) = known.filter(|_| by_callout) else { continue };
            let before = self.knowledge.of(address).await;
            // Most mail goes to those who are known to exist: nothing is written for that.
            if before
                .as_ref()
                .is_some_and(|before| before.state == known.state && !before.wants_refresh(now) && before.is_fresh(now))
            {
                continue;
            }
            let was_told_otherwise =
                before.is_some_and(|before| before.state == KnownState::Exists && before.by == Teacher::Callout);
            if known.state == KnownState::Unknown && was_told_otherwise {
                // It takes at RCPT what it does not want: is it still to be believed?
                self.knowledge.set_trust(domain, None).await;
            }
            self.knowledge.learn(address, known).await;
        }
    }
}

/// For operators, and the house.
impl RecipientDirectory {
    /// The settings were read, or read again: reads the files of lists and reports their mistakes. Blocks.
    pub fn reload(&self, config: &Arc<Config>) {
        self.lists.work_out(config);
    }

    /// Adds entries (`joe@customer.example`, `*@customer.example`) to the lists, durably; how many are new.
    pub async fn add(&self, config: &Arc<Config>, entries: Vec<Address>) -> Result<usize, ChangeError> {
        self.change(config, entries, true).await
    }

    /// Takes out what was added; how many there were.
    pub async fn remove(&self, config: &Arc<Config>, entries: Vec<Address>) -> Result<usize, ChangeError> {
        self.change(config, entries, false).await
    }

    async fn change(&self, config: &Arc<Config>, entries: Vec<Address>, add: bool) -> Result<usize, ChangeError> {
        let local = |address: &Address| Some((address.domain()?.clone(), address.local().to_lowercase()));
        let entries: Vec<_> = entries.iter().filter_map(local).collect();
        let (lists, config) = (Arc::clone(&self.lists), Arc::clone(config));
        let changed = tokio::task::spawn_blocking(move || lists.change(&config, &entries, add)).await;
        changed.expect("changing a list does not panic")
    }

    /// What is remembered of an address is forgotten: the server is asked again. Whether there was something.
    pub async fn forget(&self, address: &Address) -> bool {
        self.knowledge.forget(address).await
    }

    /// Whether an address stands in a list of its domain.
    pub async fn is_listed(&self, config: &Arc<Config>, address: &Address) -> bool {
        let Some(domain) = address.domain() else { return false };
        self.lists.of(config, domain, self.clock.now()).await.find(address.local()).is_some()
    }

    /// The first entries of a domain's lists, by their source, and how many there are.
    pub async fn listed(&self, config: &Arc<Config>, domain: &Domain, most: usize) -> (Vec<(String, ListedIn)>, usize) {
        let listed = self.lists.of(config, domain, self.clock.now()).await;
        let settings = listed.settings.iter().map(|local| (local.to_owned(), ListedIn::Settings));
        let added = listed.added.iter().map(|local| (local.to_owned(), ListedIn::Added));
        (added.chain(settings).take(most).collect(), listed.settings.len() + listed.added.len())
    }

    /// What is remembered of the first addresses of a domain.
    pub async fn remembered(&self, domain: &Domain, most: usize) -> Vec<(String, Known)> {
        self.knowledge.list(domain, most).await
    }

    /// Whether the domain's server is known to take every address.
    pub async fn takes_everything(&self, domain: &Domain) -> bool {
        let now = self.clock.now();
        self.knowledge.trust(domain).await.is_some_and(|trust| trust.takes_everything && trust.until > now)
    }

    /// Throws away what has expired; nothing of a domain that is away. Says how many.
    pub async fn sweep(&self, config: &Config, now: Timestamp, is_away: impl Fn(&Domain) -> bool) -> usize {
        let unreached = |domain: &Domain| config.domain(domain).is_some_and(|settings| self.desks.is_away(settings));
        self.knowledge.sweep(now, |domain| is_away(domain) || unreached(domain)).await
    }

    /// How callouts ended since the start.
    pub fn callouts(&self) -> [(&'static str, u64); 5] {
        self.desks.counts().named()
    }
}

fn remembered(known: &Known) -> Existence {
    match known.state {
        KnownState::Exists | KnownState::Unclear => Existence::Exists(Ground::Remembered(known.clone())),
        KnownState::Unknown => Existence::Unknown(Ground::Remembered(known.clone())),
    }
}

/// Nobody can say: what the domain's settings want then.
fn undecided(settings: &DomainConfig, ground: Ground) -> Existence {
    match settings.recipients.unseen {
        Unseen::Accept => Existence::Exists(ground),
        Unseen::Defer => Existence::NotYet(ground),
    }
}
