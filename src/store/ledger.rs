//! The ledger: for each domain, every recipient that was ever accepted, and what became of it.
//!
//! ```text
//! accepted = delivered + waiting + held + quarantined + bounced + deleted + rejected
//! ```
//!
//! It has two halves. The *totals* are durable: what was accepted, and how the recipients of messages that have left ended.
//! They are a function of the journal's records alone, counted when a record has become durable, and written down at the
//! head of each segment; a start takes the newest of these and counts the records after it. So they are exact after a
//! crash at any moment: a record either stands before the head that was written down, or is counted again. *Live* is what
//! the messages in the spool say, recipients that are settled while others still wait included; it is kept up with each
//! change and taken anew from the records themselves by a stocktaking (`stock.rs`).
//!
//! The two come from different records (a message's `Accepted` and `Done`; the states of those that are there), so a message
//! that goes away without an end makes them disagree, and the ledger says for which domain.
//!
//! It does not know why a recipient ended as it did, and keeps nothing that identifies a message. On failure: a difference
//! is reported, never smoothed.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use crate::mail::{Origin, Progress, QueueId, SessionId, Status, Timestamp};

use super::Entry;
use super::record::Kind;

/// The account of our own notices, whose recipients may be anybody: one account for all of them, so that their number is
/// bounded by the domains that are served.
pub const NOTICES: &str = "(notices)";

/// What became of the recipients of one domain. Signed, so that a difference has two directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Taken into the spool.
    pub accepted: i64,
    pub waiting: i64,
    pub held: i64,
    pub quarantined: i64,
    pub delivered: i64,
    pub bounced: i64,
    /// By policy or by an operator.
    pub deleted: i64,
    /// Refused after DATA, when the message was on disk already: the sender was told and has it.
    pub rejected: i64,
}

impl Account {
    /// Accepted, and nobody knows what became of it: 0 when the account balances.
    pub fn missing(&self) -> i64 {
        self.accepted - self.known()
    }

    /// Every number with its name.
    pub fn named(&self) -> [(&'static str, i64); 9] {
        [
            ("accepted", self.accepted),
            ("waiting", self.waiting),
            ("held", self.held),
            ("quarantined", self.quarantined),
            ("delivered", self.delivered),
            ("bounced", self.bounced),
            ("deleted", self.deleted),
            ("rejected", self.rejected),
            ("missing", self.missing()),
        ]
    }

    fn known(&self) -> i64 {
        self.waiting + self.held + self.quarantined + self.delivered + self.bounced + self.deleted + self.rejected
    }

    fn count(&mut self, status: &Status, by: i64) {
        let field = match status {
            Status::Waiting => &mut self.waiting,
            Status::Held { .. } => &mut self.held,
            Status::Quarantined { .. } => &mut self.quarantined,
            Status::Delivered { .. } => &mut self.delivered,
            Status::Bounced { .. } => &mut self.bounced,
            Status::Deleted { .. } => &mut self.deleted,
            Status::Rejected { .. } => &mut self.rejected,
        };
        *field += by;
    }

    fn add(&mut self, other: &Account) {
        self.accepted += other.accepted;
        self.waiting += other.waiting;
        self.held += other.held;
        self.quarantined += other.quarantined;
        self.delivered += other.delivered;
        self.bounced += other.bounced;
        self.deleted += other.deleted;
        self.rejected += other.rejected;
    }
}

impl std::iter::Sum for Account {
    fn sum<I: Iterator<Item = Account>>(accounts: I) -> Account {
        accounts.fold(Account::default(), |mut sum, account| {
            sum.add(&account);
            sum
        })
    }
}

/// An account as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainAccount {
    /// A domain, or `(notices)`.
    pub domain: String,
    #[serde(flatten)]
    pub account: Account,
    /// Of the account, for those who read this as JSON.
    pub missing: i64,
}

/// What one domain has in the spool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainStock {
    pub domain: String,
    pub waiting: u64,
    pub held: u64,
    pub quarantined: u64,
    /// The message that has waited or been held longest.
    pub oldest: Option<QueueId>,
    /// What the next hop said last, while something waits.
    pub last_reply: String,
}

/// What is in the spool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stock {
    pub messages: u64,
    pub awaiting_scan: u64,
    pub domains: Vec<DomainStock>,
}

/// The half of the ledger that is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Messages ever accepted.
    pub accepted: i64,
    /// Messages that left with a `Done`.
    pub left: i64,
    /// Messages that a start or housekeeping found damaged or missing; said in the log then.
    pub lost: i64,
    /// By domain: what was accepted, and the ends of recipients whose message has left.
    pub accounts: BTreeMap<String, Account>,
}

impl Totals {
    /// Messages that should be in the spool.
    pub fn expected(&self) -> i64 {
        self.accepted - self.left - self.lost
    }

    /// An `Accepted` record.
    pub fn accept(&mut self, entry: &Entry) {
        self.accepted += 1;
        for row in rows(entry) {
            self.account(row).accepted += 1;
        }
    }

    /// A `Done` record; `rows`: the accounts of its recipients, in their order, or one for all.
    pub fn leave(&mut self, rows: &[String], progress: &Progress) {
        self.left += 1;
        for (index, recipient) in progress.recipients.iter().enumerate() {
            let row = rows.get(index).or(rows.first()).map_or(NOTICES, String::as_str);
            self.account(row.to_owned()).count(&recipient.status, 1);
        }
    }

    /// The account's numbers, made when there is none.
    fn account(&mut self, row: String) -> &mut Account {
        self.accounts.entry(row).or_default()
    }

    /// What is different, in words; what was lost is not a matter of records.
    pub fn differences(&self, counted: &Totals) -> Vec<String> {
        let mut differences = Vec::new();
        if (self.accepted, self.left) != (counted.accepted, counted.left) {
            let (accepted, left) = (counted.accepted, counted.left);
            differences
                .push(format!("{} messages accepted and {} left, counted {accepted} and {left}", self.accepted, self.left));
        }
        let rows: BTreeSet<_> = self.accounts.keys().chain(counted.accounts.keys()).collect();
        for row in rows {
            let of = |totals: &Totals| totals.accounts.get(row).copied().unwrap_or_default();
            if of(self) != of(counted) {
                differences.push(format!("{row}: {:?}, counted {:?}", of(self), of(counted)));
            }
        }
        differences
    }
}

/// The accounts of a message's recipients as its `Done` names them: one for all of them when it is the same.
pub fn rows_of_done(entry: &Entry) -> Vec<String> {
    let mut rows: Vec<_> = rows(entry).collect();
    if rows.windows(2).all(|pair| pair[0] == pair[1]) {
        rows.truncate(1);
    }
    rows
}

fn rows(entry: &Entry) -> impl Iterator<Item = String> {
    entry.envelope.recipients.iter().map(|recipient| match entry.progress.origin {
        Origin::Client => recipient.address.host().to_string(),
        Origin::Gateway => NOTICES.to_owned(),
    })
}

/// What the messages in the spool say.
#[derive(Clone, Default)]
pub struct Live {
    messages: i64,
    awaiting_scan: i64,
    accounts: BTreeMap<String, Account>,
    /// By where they are to go, notices too: for `status`.
    hosts: BTreeMap<String, HostRow>,
}

#[derive(Clone, Default)]
struct HostRow {
    account: Account,
    /// Messages that wait or are held, oldest first.
    open: BTreeSet<QueueId>,
    last_due: Timestamp,
    last_reply: String,
}

impl Live {
    pub fn add(&mut self, entry: &Entry) {
        self.count(entry, 1);
    }

    pub fn remove(&mut self, entry: &Entry) {
        self.count(entry, -1);
        for name in rows(entry) {
            if self.accounts.get(&name) == Some(&Account::default()) {
                self.accounts.remove(&name);
            }
        }
        for name in hosts(entry) {
            if self.hosts.get(&name).is_some_and(|row| row.account == Account::default()) {
                self.hosts.remove(&name);
            }
        }
    }

    fn count(&mut self, entry: &Entry, by: i64) {
        self.messages += by;
        self.awaiting_scan += if entry.progress.awaits_scan() { by } else { 0 };
        let states = &entry.progress.recipients;
        for (name, recipient) in rows(entry).zip(states) {
            self.accounts.entry(name).or_default().count(&recipient.status, by);
        }
        for (name, recipient) in hosts(entry).zip(states) {
            let row = self.hosts.entry(name).or_default();
            row.account.count(&recipient.status, by);
            if !matches!(recipient.status, Status::Waiting | Status::Held { .. }) {
                continue;
            }
            if by < 0 {
                row.open.remove(&entry.envelope.id);
                continue;
            }
            row.open.insert(entry.envelope.id);
            // The one due last was, as far as the queue knows, tried last.
            if !recipient.last_reply.is_empty() && recipient.due >= row.last_due {
                row.last_due = recipient.due;
                row.last_reply.clone_from(&recipient.last_reply);
            }
        }
    }

    fn stock(&self) -> Stock {
        let stock = |(domain, row): (&String, &HostRow)| DomainStock {
            domain: domain.clone(),
            waiting: positive(row.account.waiting),
            held: positive(row.account.held),
            quarantined: positive(row.account.quarantined),
            oldest: row.open.first().copied(),
            last_reply: if row.account.waiting + row.account.held > 0 { row.last_reply.clone() } else { String::new() },
        };
        let is_there = |stock: &DomainStock| stock.waiting + stock.held + stock.quarantined > 0;
        Stock {
            messages: positive(self.messages),
            awaiting_scan: positive(self.awaiting_scan),
            domains: self.hosts.iter().map(stock).filter(is_there).collect(),
        }
    }
}

fn hosts(entry: &Entry) -> impl Iterator<Item = String> {
    entry.envelope.recipients.iter().map(|recipient| recipient.address.host().to_string())
}

fn positive(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// Both halves, kept under the table's lock and changed together with it.
#[derive(Default)]
pub struct Ledger {
    pub totals: Totals,
    live: Live,
    recount: Option<Recount>,
}

/// A stocktaking under way. A message is counted in it from the state that is durable; from then on each change counts.
#[derive(Default)]
struct Recount {
    live: Live,
    /// Messages up to here are counted, but for those that are pending. `None`: none yet.
    to: Option<QueueId>,
    pending: HashSet<QueueId>,
    /// Pending ones that changed meanwhile: what was read of them may be old.
    changed: HashSet<QueueId>,
}

impl Ledger {
    /// A record has become durable. `before`: the durable state that it replaces.
    pub fn record(&mut self, kind: Kind, before: Option<&Entry>, after: &Entry) {
        match kind {
            Kind::Accepted => self.totals.accept(after),
            Kind::Done => self.totals.leave(&rows_of_done(after), &after.progress),
            Kind::Carried | Kind::Ledger => return,
            Kind::Judged | Kind::Progress | Kind::Steered => {}
        }
        let after_live = (kind != Kind::Done).then_some(after);
        change(&mut self.live, before, after_live);
        if let Some(recount) = &mut self.recount {
            let id = after.envelope.id;
            if recount.pending.contains(&id) {
                recount.changed.insert(id);
            } else if recount.to.is_some_and(|to| id <= to) {
                change(&mut recount.live, before, after_live);
            }
        }
    }

    /// A message that the spool holds, at a start.
    pub fn count_in(&mut self, entry: &Entry) {
        self.live.add(entry);
    }

    /// The totals of a spool that has none: what it holds was accepted.
    pub fn adopt(&mut self) {
        self.totals = Totals { accepted: self.live.messages, ..Totals::default() };
        for (name, account) in &self.live.accounts {
            self.totals.account(name.clone()).accepted = account.known();
        }
    }

    /// What is there is counted anew.
    pub fn forget_stock(&mut self) {
        self.live = Live::default();
    }

    pub fn begin_recount(&mut self) {
        self.recount = Some(Recount::default());
    }

    /// The messages that are read next, in the order of their ids; none: all are read, and from now on every change counts.
    pub fn recount_page(&mut self, ids: &[QueueId]) {
        if let Some(recount) = &mut self.recount {
            recount.to = Some(ids.last().copied().unwrap_or_else(last_id));
            recount.pending = ids.iter().copied().collect();
            recount.changed.clear();
        }
    }

    /// A message of the page as it was read; `None`: it cannot be read, or has left. `false`: it has changed meanwhile and
    /// must be read again.
    pub fn recounted(&mut self, id: QueueId, entry: Option<&Entry>) -> bool {
        let Some(recount) = &mut self.recount else { return true };
        if entry.is_some() && recount.changed.remove(&id) {
            return false;
        }
        recount.pending.remove(&id);
        if let Some(entry) = entry {
            recount.live.add(entry);
        }
        true
    }

    /// What the stocktaking found takes the place of what was kept up; the differences in words.
    pub fn end_recount(&mut self) -> Vec<String> {
        let Some(recount) = self.recount.take() else { return Vec::new() };
        let kept = std::mem::replace(&mut self.live, recount.live);
        let names: BTreeSet<_> = kept.accounts.keys().chain(self.live.accounts.keys()).collect();
        let of = |live: &Live, name: &String| live.accounts.get(name).copied().unwrap_or_default();
        let pairs = names.into_iter().map(|name| (name, of(&kept, name), of(&self.live, name)));
        pairs
            .filter(|(_, kept, found)| kept != found)
            .map(|(name, kept, found)| format!("{name}: kept up as {kept:?}, found {found:?}"))
            .collect()
    }

    /// Every account, by domain.
    pub fn accounts(&self) -> Vec<DomainAccount> {
        accounts(&self.totals, &self.live)
    }

    pub fn stock(&self) -> Stock {
        self.live.stock()
    }
}

/// The accounts that totals and stock make together.
pub fn accounts(totals: &Totals, live: &Live) -> Vec<DomainAccount> {
    let mut accounts = totals.accounts.clone();
    for (name, account) in &live.accounts {
        accounts.entry(name.clone()).or_default().add(account);
    }
    accounts.into_iter().map(|(domain, account)| DomainAccount { domain, missing: account.missing(), account }).collect()
}

/// An account that does not balance, with all its numbers, as it stands in the log.
pub fn imbalance(line: &DomainAccount) -> Option<String> {
    let DomainAccount { domain, account, .. } = line;
    (account.missing() != 0).then(|| {
        format!(
            "{domain}: accepted {} but delivered {}, waiting {}, held {}, quarantined {}, bounced {}, deleted {}, rejected {}: \
             {} missing",
            account.accepted,
            account.delivered,
            account.waiting,
            account.held,
            account.quarantined,
            account.bounced,
            account.deleted,
            account.rejected,
            account.missing()
        )
    })
}

/// None is greater.
fn last_id() -> QueueId {
    let session = SessionId::from_u64((1 << 60) - 1).expect("an id has 60 bits");
    session.message(u32::MAX)
}

fn change(live: &mut Live, before: Option<&Entry>, after: Option<&Entry>) {
    if let Some(before) = before {
        live.remove(before);
    }
    if let Some(after) = after {
        live.add(after);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{entry, id, settle};
    use super::*;

    fn only(ledger: &Ledger) -> Account {
        let accounts = ledger.accounts();
        assert_eq!(accounts.len(), 1, "{accounts:?}");
        accounts[0].account
    }

    #[test]
    fn an_account_balances_from_accepting_to_the_end() {
        let mut ledger = Ledger::default();
        let new = entry(1, 2);
        ledger.record(Kind::Accepted, None, &new);
        assert_eq!(only(&ledger), Account { accepted: 2, waiting: 2, ..Account::default() });
        let mut half = new.clone();
        half.progress.recipients[0].status = Status::Delivered { at: Timestamp(1), host: "mx".into() };
        half.progress.recipients[1].status = Status::Held { since: Timestamp(1) };
        ledger.record(Kind::Progress, Some(&new), &half);
        assert_eq!(only(&ledger), Account { accepted: 2, delivered: 1, held: 1, ..Account::default() });
        assert_eq!(ledger.stock().domains[0].oldest, Some(id(1)));
        let mut done = half.clone();
        settle(&mut done.progress);
        ledger.record(Kind::Done, Some(&half), &done);
        assert_eq!(only(&ledger), Account { accepted: 2, delivered: 2, ..Account::default() });
        assert_eq!(ledger.totals.expected(), 0);
        assert_eq!(ledger.stock(), Stock::default());
    }

    #[test]
    fn a_message_that_is_gone_without_an_end_is_missing() {
        let mut ledger = Ledger::default();
        ledger.record(Kind::Accepted, None, &entry(1, 3));
        ledger.record(Kind::Accepted, None, &entry(2, 1));
        ledger.begin_recount();
        ledger.recount_page(&[id(2)]);
        assert!(ledger.recounted(id(2), Some(&entry(2, 1))));
        let differences = ledger.end_recount();
        assert_eq!(differences.len(), 1, "{differences:?}");
        let line = imbalance(&ledger.accounts()[0]).unwrap();
        assert!(line.starts_with("customer.example: accepted 4 but") && line.ends_with("3 missing"), "{line}");
    }

    #[test]
    fn a_stocktaking_is_exact_while_mail_flows() {
        let mut ledger = Ledger::default();
        (1..=3).for_each(|number| ledger.record(Kind::Accepted, None, &entry(number, 1)));
        ledger.begin_recount();
        ledger.recount_page(&[id(1), id(2)]);
        let old = entry(1, 1);
        let mut done = old.clone();
        settle(&mut done.progress);
        // Changed after it was read, and before it was counted.
        ledger.record(Kind::Done, Some(&old), &done);
        assert!(!ledger.recounted(id(1), Some(&old)), "it has to be read again");
        assert!(ledger.recounted(id(1), None));
        assert!(ledger.recounted(id(2), Some(&entry(2, 1))));
        // Changed after it was counted, and before its turn.
        for number in [2, 3] {
            let (old, mut done) = (entry(number, 1), entry(number, 1));
            settle(&mut done.progress);
            ledger.record(Kind::Done, Some(&old), &done);
        }
        ledger.recount_page(&[]);
        assert_eq!(ledger.end_recount(), Vec::<String>::new());
        assert_eq!(only(&ledger), Account { accepted: 3, delivered: 3, ..Account::default() });
    }

    #[test]
    fn notices_share_one_account() {
        let mut ledger = Ledger::default();
        let mut notice = entry(1, 1);
        notice.progress.origin = Origin::Gateway;
        ledger.record(Kind::Accepted, None, &notice);
        assert_eq!(ledger.accounts()[0].domain, NOTICES);
    }

    #[test]
    fn totals_survive_being_written_down() {
        let mut totals = Totals::default();
        totals.accept(&entry(1, 2));
        let mut done = entry(1, 2);
        settle(&mut done.progress);
        totals.leave(&rows_of_done(&done), &done.progress);
        let text = serde_json::to_string(&totals).unwrap();
        assert_eq!(serde_json::from_str::<Totals>(&text).unwrap(), totals);
        assert!(totals.differences(&totals).is_empty());
        assert_eq!(totals.differences(&Totals::default()).len(), 2);
    }
}
