//! Questions about client, sender and recipient that are answered before a message is read.
//!
//! Each answers one question and does nothing else: the reply, the mail log and the allowed networks of the settings are the
//! flow's business. Nothing here loses mail: a check that cannot do its work lets the client pass.

mod door;
mod greylist;
mod network;
mod reverse;

pub use door::{Door, Pass};
pub use greylist::{Greylist, GreylistAnswer, GreylistRecord};
pub use reverse::{ReverseName, ReverseNames};
