//! How a command line says which messages it means: a target, options, or `--all`.

use std::fmt;
use std::str::FromStr;

use clap::Args;

use super::Failure;
use crate::admin::api::ListQuery;
use crate::admin::client::encoded;
use crate::admin::operations::Selection;
use crate::admin::selection::{STATES, duration};
use crate::mail::{Address, Domain, QueueId, SessionId};

/// A queue id, a domain, or an address, told apart by how they look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Id(QueueId),
    /// A recipient's domain.
    Domain(Domain),
    /// A recipient.
    Address(Address),
}

impl FromStr for Target {
    type Err = String;
    fn from_str(text: &str) -> Result<Target, String> {
        if let Ok(id) = text.parse::<QueueId>() {
            return Ok(Target::Id(id));
        }
        if text.parse::<SessionId>().is_ok() {
            return Err(format!("this is a session's id; a message's ends in its number, for example {text}.1"));
        }
        if text.contains('@') {
            return Address::parse(text).map(Target::Address).map_err(|error| error.to_string());
        }
        Domain::parse(text).map(Target::Domain).map_err(|_| "neither a queue id, nor a domain, nor an address".to_owned())
    }
}

/// Everything that is given must match.
#[derive(Clone, Debug, Default, Args)]
pub struct Filters {
    /// Messages for this domain
    #[arg(long)]
    domain: Option<Domain>,
    /// Messages from this address
    #[arg(long, value_name = "ADDRESS")]
    sender: Option<Address>,
    /// Messages for this address
    #[arg(long, value_name = "ADDRESS")]
    recipient: Option<Address>,
    /// Messages in this state
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(STATES))]
    state: Option<String>,
    /// Messages that came in so long ago or longer, such as 2d or 36h
    #[arg(long, value_name = "AGE", value_parser = age)]
    older_than: Option<String>,
    /// Messages that came in less long ago
    #[arg(long, value_name = "AGE", value_parser = age)]
    newer_than: Option<String>,
}

impl Filters {
    pub fn is_empty(&self) -> bool {
        let Filters { domain, sender, recipient, state, older_than, newer_than } = self;
        let addresses = domain.is_none() && sender.is_none() && recipient.is_none();
        addresses && state.is_none() && older_than.is_none() && newer_than.is_none()
    }
}

/// As it was written; the gateway reads it again.
fn age(text: &str) -> Result<String, String> {
    duration(text).map(|_| text.to_owned())
}

/// How a steering is meant.
#[derive(Clone, Debug, Default, Args)]
pub struct How {
    /// Why: kept with every message it changes, and in the mail log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// Say what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

impl How {
    /// The path of a steering with how it is meant: the query of [`crate::admin::api::Manner`].
    pub fn target(&self, path: &str) -> String {
        let How { reason, dry_run } = self;
        format!("{path}?dry_run={dry_run}&reason={}", encoded(reason))
    }
}

/// Which messages a steering is for.
#[derive(Clone, Debug, Args)]
pub struct Which {
    /// A queue id, a recipient's domain, or a recipient's address
    target: Option<Target>,
    #[command(flatten)]
    pub filters: Filters,
    /// Every message; needed when nothing else selects
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub how: How,
}

impl Which {
    /// Which messages, and how it is meant.
    pub fn read(self) -> Result<(Selection, How), Failure> {
        let how = self.how.clone();
        Ok((self.selection()?, how))
    }

    fn selection(self) -> Result<Selection, Failure> {
        steering(self.target, self.filters, self.all)
    }
}

/// Which messages to list: all, when nothing is said.
#[derive(Clone, Debug, Args)]
pub struct ListWhich {
    /// A queue id, a recipient's domain, or a recipient's address
    target: Option<Target>,
    #[command(flatten)]
    filters: Filters,
    /// Show so many at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Go on after this message
    #[arg(long, value_name = "ID")]
    after: Option<QueueId>,
}

impl ListWhich {
    pub fn query(self) -> Result<ListQuery, Failure> {
        let Selection { id, domain, sender, recipient, state, older_than, newer_than, all: _ } =
            selection(self.target, self.filters)?;
        let (after, limit) = (self.after, Some(self.limit.into()));
        Ok(ListQuery { id, domain, sender, recipient, state, older_than, newer_than, after, limit })
    }
}

/// The selection of a command that changes something.
pub fn steering(target: Option<Target>, filters: Filters, all: bool) -> Result<Selection, Failure> {
    let selection = Selection { all, ..selection(target, filters)? };
    if selection.is_open() && !all {
        let text = "which messages? Name a queue id, a domain or an address, or say --all; --help tells more";
        return Err(Failure::Usage(text.to_owned()));
    }
    Ok(selection)
}

fn selection(target: Option<Target>, filters: Filters) -> Result<Selection, Failure> {
    let Filters { domain, sender, recipient, state, older_than, newer_than } = filters;
    let mut selection = Selection { id: None, domain, sender, recipient, state, older_than, newer_than, all: false };
    let twice = |what| Failure::Usage(format!("{what} is given twice: as target and as option"));
    match target {
        Some(Target::Id(id)) => selection.id = Some(id),
        Some(Target::Domain(_)) if selection.domain.is_some() => return Err(twice("the domain")),
        Some(Target::Domain(domain)) => selection.domain = Some(domain),
        Some(Target::Address(_)) if selection.recipient.is_some() => return Err(twice("the recipient")),
        Some(Target::Address(recipient)) => selection.recipient = Some(recipient),
        None => {}
    }
    Ok(selection)
}

/// For people: `for customer.example, in state held`.
pub fn in_words(selection: &Selection) -> String {
    let Selection { id, domain, sender, recipient, state, older_than, newer_than, all: _ } = selection;
    let part = |word: &str, value: Option<&dyn fmt::Display>| value.map(|value| format!("{word} {value}"));
    let parts = [
        part("with id", id.as_ref().map(|id| id as &dyn fmt::Display)),
        part("for", domain.as_ref().map(|domain| domain as &dyn fmt::Display)),
        part("from", sender.as_ref().map(|sender| sender as &dyn fmt::Display)),
        part("to", recipient.as_ref().map(|recipient| recipient as &dyn fmt::Display)),
        part("in state", state.as_ref().map(|state| state as &dyn fmt::Display)),
        part("older than", older_than.as_ref().map(|age| age as &dyn fmt::Display)),
        part("newer than", newer_than.as_ref().map(|age| age as &dyn fmt::Display)),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_told_apart() {
        let target = |text: &str| text.parse::<Target>();
        assert!(matches!(target("01hk3c9v7x00.1"), Ok(Target::Id(_))));
        assert!(matches!(target("Customer.example"), Ok(Target::Domain(domain)) if domain.as_str() == "customer.example"));
        assert!(matches!(target("joe@customer.example"), Ok(Target::Address(_))));
        assert!(target("01hk3c9v7x00").unwrap_err().ends_with("for example 01hk3c9v7x00.1"));
        assert!(target("a b").unwrap_err().starts_with("neither"));
    }

    #[test]
    fn nothing_is_not_everything() {
        assert!(matches!(steering(None, Filters::default(), false), Err(Failure::Usage(_))));
        assert!(steering(None, Filters::default(), true).unwrap().all);
        let domain = Domain::parse("customer.example").unwrap();
        let filters = Filters { domain: Some(domain.clone()), ..Filters::default() };
        assert!(matches!(steering(Some(Target::Domain(domain)), filters, false), Err(Failure::Usage(_))));
    }

    #[test]
    fn a_selection_can_be_said_in_words() {
        let filters = Filters { state: Some("held".to_owned()), ..Filters::default() };
        let selection = steering("customer.example".parse().ok(), filters, false).unwrap();
        assert_eq!(in_words(&selection), "for customer.example, in state held");
    }
}
