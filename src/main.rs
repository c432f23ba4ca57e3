//! The binary: reads the command line, and hands `serve` to the daemon and everything else to the commands.

use std::process::ExitCode;

use feedgate::admin::cli::{self, Arguments, Command};
use feedgate::daemon;

fn main() -> ExitCode {
    let arguments = match Arguments::read(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(exit_code) => return exit_code,
    };
    match arguments.command {
        Command::Serve => daemon::serve(&arguments.config).unwrap_or_else(|error| cli::failed(&error)),
        _ => cli::run(arguments, daemon::clock()),
    }
}
