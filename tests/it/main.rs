//! All integration tests, in one binary.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

mod admin;
mod bad_input;
mod clamd;
mod config;
mod crash;
mod dialogs;
mod end_to_end;
mod flow;
mod forgetful;
mod gateway;
mod greylist;
mod kill;
mod layout;
mod ledger;
mod load;
mod notices;
mod outage;
mod page;
mod power;
mod rules;
mod scan;
mod steering;
mod world;
