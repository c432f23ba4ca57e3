//! All integration tests, in one binary.

mod admin;
mod bad_input;
mod clamd;
mod config;
mod dialogs;
mod end_to_end;
mod gateway;
mod greylist;
mod layout;
mod scan;
