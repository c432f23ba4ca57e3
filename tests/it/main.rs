//! All integration tests, in one binary.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

mod admin;
mod authentication;
mod bad_input;
mod clamd;
mod clients;
mod config;
mod crash;
mod dialogs;
mod dns;
mod end_to_end;
mod flow;
mod forgetful;
mod gateway;
mod greylist;
mod hostile;
mod kill;
mod layout;
mod learn;
mod ledger;
mod limits;
mod load;
mod notices;
mod outage;
mod page;
mod power;
mod recipients;
mod relay;
mod replay;
mod rules;
mod scan;
mod spam_policy;
mod steering;
mod suites;
mod world;
