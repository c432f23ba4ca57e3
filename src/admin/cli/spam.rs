//! `feedgate spam …`: the judgement, explained, taught, measured and rehearsed.

pub mod explain;
mod learn;
pub mod manifest;
mod replay;
pub mod saved;
mod score;
mod stats;
mod train;

use clap::Subcommand;

use super::{Context, Failure};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Why a message got its level, and what would change it
    Explain(explain::Arguments),
    /// Learn from messages that somebody called spam or ham
    Learn(learn::Arguments),
    /// What was learned, and how often rules hit
    Stats(stats::Arguments),
    /// What other points, rules or levels would have changed on the mail of the last days
    Replay(replay::Arguments),
    /// Judge the messages of a manifest; needs no configuration and no running gateway
    Score(score::Arguments),
    /// Fit the points of the rules, the token model and the levels to labelled mail
    Train(train::Arguments),
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Explain(arguments) => explain::run(context, arguments).await,
        Command::Learn(arguments) => learn::run(context, arguments).await,
        Command::Stats(arguments) => stats::run(context, arguments).await,
        Command::Replay(arguments) => replay::run(context, arguments).await,
        Command::Score(arguments) => score::run(context, &arguments),
        Command::Train(arguments) => train::run(context, &arguments),
    }
}
