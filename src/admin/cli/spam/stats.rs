//! `feedgate spam stats`: what was learned, how often rules hit.

use clap::Args;

use super::super::{Context, Failure};

#[derive(Debug, Args)]
pub struct Arguments {}

pub async fn run(_context: &Context, _arguments: Arguments) -> Result<(), Failure> {
    Err(Failure::CouldNot("not available yet".to_owned()))
}
