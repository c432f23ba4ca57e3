//! The outside, simulated: implementors of the five seams for tests, with faults that tests choose. Always compiled, so that
//! it cannot rot; never named by the binary.
//!
//! | seam | here | what a test chooses |
//! |---|---|---|
//! | `Clock` | [`Clock`] | when time passes |
//! | `Resolver` | [`Dns`] | the records, and which questions fail |
//! | `Scanner` | [`Scanner`] | verdicts, health, how long it thinks |
//! | `Disk` | [`Disk`] | what a crash leaves, which calls fail, how much room there is |
//! | `Transport` | [`Network`] of [`Server`]s | who is there, what each server answers, hangs at or drops |
//!
//! The values can be shared with what is tested and changed while it runs: all take `&self` once they are built.

mod clock;
mod disk;
mod dns;
mod network;
mod scanner;
mod server;
mod session;

pub use clock::Clock;
pub use disk::Disk;
pub use dns::{Dns, Zone};
pub use network::Network;
pub use scanner::Scanner;
pub use server::{At, Do, Received, Server, Way};
