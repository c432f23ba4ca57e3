//! Questions about client, sender and recipient that are answered before a message is read.
//!
//! Each answers one question and does nothing else: the reply, the mail log and the allowed networks of the settings are the
//! flow's business. Nothing here loses mail: a check that cannot do its work lets the client pass.

mod acquaintance;
mod authentication;
mod cases;
mod clients;
mod door;
mod greylist;
mod limiter;
mod lists;
mod network;
mod recipients;
mod reputation;
mod reverse;
mod uris;

use std::sync::Arc;

pub use acquaintance::Acquaintance;
pub use authentication::{Authenticator, Spf, SpfResult};
pub use cases::{Advice, Answer, Case, Cases, DnsNow, Found, Kind, Named, Sender, SpfChange, advice};
pub use clients::{ClientReport, Clients, DynamicNames, Helo, HeloState};
pub use door::{Door, Pass};
pub use greylist::{
    Correspondents, DAYS_MAX, Greylist, GreylistAnswer, GreylistDay, GreylistRecord, GreylistStatistics, Identity, LOST_MAX,
    LostTry, Newcomer, Passed, SpfProof, WhichLost,
};
pub use limiter::{Ban, Limiter, OverLimit, Standing};
pub use lists::{ListAnswer, ListResult, ListStatus};
pub use recipients::{ChangeError, Existence, Ground, Known, KnownState, ListedIn, RecipientDirectory, Teacher};
pub use reputation::{Reputation, Reputed, Taught};
pub use reverse::{Forward, Reverse, ReverseName, ReverseState};
pub use uris::Uris;

use crate::outside::{Clock, Resolver, Transport};
use crate::store::Store;

/// All of them, made once. Cloning shares them.
#[derive(Clone)]
pub struct Checks {
    pub clients: Clients,
    pub authenticator: Authenticator,
    pub limiter: Limiter,
    pub recipients: RecipientDirectory,
    pub greylist: Greylist,
    pub cases: Cases,
    pub acquaintance: Acquaintance,
    pub uris: Uris,
}

impl Checks {
    pub fn new(store: &Store, clock: Arc<dyn Clock>, resolver: Arc<dyn Resolver>, transport: Arc<dyn Transport>) -> Checks {
        let greylist = Greylist::new(store.memory("greylist"));
        let acquaintance = Acquaintance::new(Reputation::new(store.memory("reputation")), greylist.correspondents.clone());
        Checks {
            clients: Clients::new(Arc::clone(&resolver), Arc::clone(&clock)),
            authenticator: Authenticator::new(Arc::clone(&resolver), Arc::clone(&clock)),
            limiter: Limiter::new(store.memory("bans")),
            uris: Uris::new(Arc::clone(&resolver), Arc::clone(&clock)),
            recipients: RecipientDirectory::new(store, Arc::clone(&clock), resolver, transport),
            greylist,
            cases: Cases::new(store, clock),
            acquaintance,
        }
    }
}
