//! The words of the house: addresses, envelopes, replies, levels, decisions, outcomes, ids and time.
//!
//! Plain values with their parsing and their text form. Nothing here knows of sockets, files, clocks, settings or logs;
//! every other module may use these words, and these use nothing of the house.

mod address;
mod decision;
mod envelope;
mod finding;
mod headers;
mod ids;
mod level;
mod marking;
mod organisation;
mod outcome;
mod progress;
mod reply;
mod rewrite;
mod suggest;
mod time;

pub use address::{Address, AddressError, Domain, Host, Mailbox, ReversePath};
pub use decision::{Decision, DomainJudgement, Judgement, RuleHit, Verdict};
pub use envelope::{BodyKind, Client, Envelope, MailParameters, Notify, Protocol, Recipient, Ret};
pub use finding::{Authentication, Finding};
pub use headers::{Field, HeaderSection};
pub use ids::{IdSource, QueueId, SessionId};
pub use level::{Action, SpamLevel};
pub use marking::{is_forged, mark};
pub use outcome::{Outcome, Scope};
pub use progress::{Failure, Origin, Progress, RecipientProgress, Reroute, Status, Steering};
pub use reply::{Enhanced, Reply};
pub use rewrite::{Rewrite, Segment};
pub use suggest::closest;
pub use time::Timestamp;
