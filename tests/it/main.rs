//! All integration tests, in one binary.

mod clamd;
mod config;
mod dialogs;
mod end_to_end;
mod gateway;
mod layout;
mod rules;
