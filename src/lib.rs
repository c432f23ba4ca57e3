//! Feedgate: an inbound mail gateway in front of customers' own mail servers.
//!
//! Start with [`flow`]: it tells the path of a message from top to bottom. `docs/ARCHITECTURE.md` has the picture of the
//! house; a module imports only from rows below its own, or further right in its own row.

pub mod admin;
pub mod checks;
pub mod config;
pub mod daemon;
pub mod flow;
pub mod mail;
pub mod net;
pub mod outside;
pub mod queue;
pub mod scan;
pub mod sim;
pub mod smtp;
pub mod spam;
pub mod store;
pub mod telemetry;
