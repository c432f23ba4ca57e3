//! The command line: `feedgate [--config FILE] [--json] COMMAND`. Noun, then verb; exit code 0 done, 1 could not, 2 usage.
//!
//! Reads arguments and writes answers; every question goes to the running gateway over its socket, except `check` and
//! `rules`, which need none. `serve` is not run here: `main` hands it to the daemon.

mod ban;
mod check_client;
pub mod domain;
mod greylist;
mod message;
mod quarantine;
mod queue;
mod recipient;
pub mod rules;
mod select;
pub mod spam;
mod status;
mod trace;
mod verify;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use serde::Serialize;

use super::check::CheckArguments;
use super::client::{Client, ClientError};
use super::{output, socket_path};
use crate::config::{Config, ConfigErrors};
use crate::mail::Timestamp;
use crate::outside::Clock;

/// Where the configuration is when nothing else is said.
pub const CONFIG_DEFAULT: &str = "/etc/feedgate/feedgate.toml";

/// An inbound mail gateway in front of your customers' own mail servers.
#[derive(Debug, Parser)]
#[command(name = "feedgate", bin_name = "feedgate", version, arg_required_else_help = true, max_term_width = 100)]
pub struct Arguments {
    /// The configuration; domains/*.toml beside it belong to it
    #[arg(long, global = true, value_name = "FILE", default_value = CONFIG_DEFAULT)]
    pub config: PathBuf,
    /// Print the answer as JSON (times: milliseconds since 1970, UTC)
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway
    Serve,
    /// Check the configuration, then DNS, next hops, virus scanner and files
    Check(CheckArguments),
    /// What the gateway thinks of a client at this moment, and why
    CheckClient(check_client::Arguments),
    /// How the gateway is doing
    Status,
    /// Put a changed configuration in force; one with mistakes changes nothing
    Reload,
    /// Messages that wait for delivery
    #[command(subcommand)]
    Queue(queue::Command),
    /// Messages kept back for somebody to look at
    #[command(subcommand)]
    Quarantine(quarantine::Command),
    /// The domains that are served
    #[command(subcommand)]
    Domain(domain::Command),
    /// Which addresses exist
    #[command(subcommand)]
    Recipient(recipient::Command),
    /// Senders that must come back, that came back, and that need not
    #[command(subcommand)]
    Greylist(greylist::Command),
    /// Clients that are turned away for a while
    #[command(subcommand)]
    Ban(ban::Command),
    /// The life of a message, from the mail log
    Trace(trace::Arguments),
    /// The rules that judge spam
    #[command(subcommand)]
    Rules(rules::Command),
    /// Why a message is spam or is not, what was learned, and what a change would do
    #[command(subcommand)]
    Spam(spam::Command),
}

/// A command that did not do what was asked, in words for standard error.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Exit code 1. Empty: everything has been said.
    #[error("{0}")]
    CouldNot(String),
    /// Exit code 1. All mistakes of the configuration, as it shows them itself: with file, line and caret.
    #[error("{0}")]
    Configuration(String),
    /// Exit code 2.
    #[error("{0}")]
    Usage(String),
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Failure {
        Failure::Configuration(errors.to_string())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure::CouldNot(error.to_string())
    }
}

impl Arguments {
    /// Reads the command line. `Err`: help was asked for, or the arguments are wrong; it has been printed.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Arguments, ExitCode> {
        let parsed = Arguments::try_parse_from(arguments).and_then(Arguments::checked);
        parsed.map_err(|error| {
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        })
    }

    fn checked(self) -> Result<Arguments, clap::Error> {
        if self.json && matches!(self.command, Command::Serve | Command::Reload) {
            let text = "--json has no meaning here: there is nothing to list or show\n";
            return Err(clap::Error::raw(clap::error::ErrorKind::ArgumentConflict, text));
        }
        Ok(self)
    }
}

/// Runs every command but `serve`.
pub fn run(arguments: Arguments, clock: Arc<dyn Clock>) -> ExitCode {
    let Arguments { config, json, command } = arguments;
    let context = Context { config, json, width: output::terminal_width(), clock };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit_code(Err(Failure::CouldNot(format!("cannot start: {error}")))),
    };
    exit_code(runtime.block_on(dispatch(&context, command)))
}

async fn dispatch(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve => Err(Failure::Usage("serve is the daemon's".to_owned())),
        Command::Check(arguments) => super::check::run(context, &arguments).await,
        Command::CheckClient(arguments) => check_client::run(context, &arguments).await,
        Command::Status => status::run(context).await,
        Command::Reload => status::reload(context).await,
        Command::Queue(command) => queue::run(context, command).await,
        Command::Quarantine(command) => quarantine::run(context, command).await,
        Command::Domain(command) => domain::run(context, command).await,
        Command::Recipient(command) => recipient::run(context, command).await,
        Command::Greylist(command) => greylist::run(context, command).await,
        Command::Ban(command) => ban::run(context, command).await,
        Command::Trace(arguments) => trace::run(context, &arguments).await,
        Command::Rules(command) => rules::run(context, command),
        Command::Spam(command) => spam::run(context, command).await,
    }
}

/// What `main` does when the gateway could not start or stopped with an error.
pub fn failed(error: &anyhow::Error) -> ExitCode {
    let text = format!("{error:#}");
    // Mistakes in the settings are errors in so many words.
    exit_code(Err(if text.starts_with("error: ") { Failure::Configuration(text) } else { Failure::CouldNot(text) }))
}

fn exit_code(done: Result<(), Failure>) -> ExitCode {
    let (code, text) = match done {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::CouldNot(text)) => (1, text),
        Err(Failure::Configuration(text)) => {
            say(&text);
            return ExitCode::from(1);
        }
        Err(Failure::Usage(text)) => (2, text),
    };
    if !text.is_empty() {
        say(&format!("error: {text}"));
    }
    ExitCode::from(code)
}

/// Says something on standard error; nothing can be done when nobody listens there.
fn say(text: &str) {
    let lines: Vec<_> = text.lines().map(output::printable).collect();
    let _ = writeln!(std::io::stderr(), "{}", lines.join("\n"));
}

/// What every command needs.
pub struct Context {
    pub config: PathBuf,
    pub json: bool,
    /// Columns of the terminal; `None`: the output goes elsewhere.
    pub width: Option<usize>,
    pub clock: Arc<dyn Clock>,
}

impl Context {
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The gateway that runs with this configuration.
    pub fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(socket_path(&self.data_dir()?)))
    }

    /// Mistakes made in the file since the gateway started must not lock its operators out, so only this has to be readable.
    pub fn data_dir(&self) -> Result<PathBuf, Failure> {
        match Config::load(&self.config) {
            Ok(config) => Ok(config.data_dir),
            Err(errors) => match data_dir_alone(&self.config) {
                Some(data_dir) => {
                    self.note("the configuration has mistakes; `feedgate check` shows them");
                    Ok(data_dir)
                }
                None => Err(errors.into()),
            },
        }
    }

    /// Prints an answer: as JSON when asked for, else `text` of it.
    pub fn show<T: Serialize>(&self, answer: &T, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        let out = if self.json { output::json(answer) } else { text(answer) };
        output::write_out(&out).map_err(|error| Failure::CouldNot(format!("cannot write the answer: {error}")))
    }

    /// Something to know beside the answer, on standard error.
    pub fn note(&self, text: &str) {
        say(&format!("note: {text}"));
    }
}

/// `data_dir` of a configuration that is TOML but not valid; a relative one starts at the file's directory.
fn data_dir_alone(config: &Path) -> Option<PathBuf> {
    let table: toml::Table = std::fs::read_to_string(config).ok()?.parse().ok()?;
    let data_dir = table.get("data_dir")?.as_str()?;
    Some(config.parent().unwrap_or(Path::new("")).join(data_dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a command line in words; `Err`: the exit code that clap gives.
    #[track_caller]
    fn read(line: &str) -> Result<Arguments, i32> {
        let words = std::iter::once("feedgate").chain(line.split_whitespace());
        Arguments::try_parse_from(words).and_then(Arguments::checked).map_err(|error| error.exit_code())
    }

    #[test]
    fn the_commands_of_the_manual_are_understood() {
        for line in [
            "serve",
            "--config /tmp/x.toml serve",
            "check --offline",
            "check --strict --json",
            "check-client 192.0.2.7",
            "check-client 2001:db8::1 --helo mail.sender.example --from joe@sender.example --to jane@customer.example --json",
            "status --json",
            "reload",
            "queue list",
            "queue list customer.example --state waiting --limit 5 --json",
            "queue list --after 01hk3c9v7x00.1",
            "queue show 01hk3c9v7x00.1 --json",
            "queue retry customer.example",
            "queue hold --domain customer.example --sender joe@sender.example",
            "queue release 01hk3c9v7x00.1",
            "queue extend customer.example 5d",
            "queue extend --all 5d",
            "queue extend customer.example --until 2026-12-01 --reason moving",
            "queue extend customer.example --clear",
            "queue reroute customer.example 203.0.113.5:2525 --dry-run",
            "queue reroute --sender joe@sender.example backup.customer.example",
            "queue reroute 01hk3c9v7x00.1 --clear",
            "queue bounce joe@customer.example --text gone --reason asked-for",
            "queue hold --older-than 2d --newer-than 5d --dry-run",
            "queue list --older-than 36h",
            "queue drop joe@customer.example --yes",
            "queue verify --json",
            "quarantine list",
            "quarantine show 01hk3c9v7x00.1",
            "quarantine release customer.example",
            "quarantine delete --all",
            "quarantine release customer.example --no-learn",
            "quarantine delete 01hk3c9v7x00.1 --spam",
            "spam learn --spam mail.eml junk/ 01hk3c9v7x00.1 - --domain customer.example --dry-run",
            "spam learn --forget --attached report.eml --json",
            "spam stats --json",
            "domain list",
            "domain show BÜCHER.example",
            "recipient list customer.example --limit 5",
            "recipient add joe@customer.example *-team@customer.example",
            "recipient remove joe@customer.example",
            "recipient check joe@customer.example --json",
            "recipient forget joe@customer.example",
            "greylist list --limit 3",
            "greylist allow 192.0.2.7",
            "greylist allow 192.0.2.0/24",
            "greylist forget 2001:db8::/64",
            "ban list --limit 5 --json",
            "ban add 192.0.2.0/24 --for 36h --reason harvest",
            "ban lift 2001:db8::5",
            "ban lift --all",
            "greylist allow sender.example",
            "greylist stats --days 7 --json",
            "greylist lost --all --limit 3",
            "trace 01hk3c9v7x00",
            "trace joe@customer.example --json",
            "rules list",
            "rules test -",
            "rules list --local --json",
            "rules test x.eml --client 192.0.2.7 --rdns mail.sender.example --helo mail.sender.example",
            "spam explain 01hk3c9v7x00.1 --json",
            "spam explain x.eml --sender joe@sender.example",
            "spam replay",
            "spam replay --since 36h --set LINK_TO_ADDRESS=1.5 --set LINK_ALONE=-0.5 --levels low=4,high=11",
            "spam replay --rules rules.d --domain customer.example --limit 0 --queue --json",
            "queue list --config /tmp/x.toml",
        ] {
            assert!(read(line).is_ok(), "{line}");
        }
        assert_eq!(read("status").unwrap().config, Path::new(CONFIG_DEFAULT));
    }

    #[test]
    fn wrong_usage_is_exit_code_2_and_help_is_0() {
        for line in [
            "",
            "frobnicate",
            "queue",
            "queue list --state frozen",
            "queue list --limit 0",
            "queue list --limit 1001",
            "queue show customer.example",
            "queue show",
            "queue retry not..a.domain",
            "queue extend",
            "queue extend customer.example 5d 6d",
            "queue extend customer.example --until tomorrow",
            "queue extend customer.example --until 2026-12-01 --clear",
            "queue bounce joe@customer.example",
            "queue bounce --text gone --text",
            "queue hold --older-than 2",
            "greylist allow 192.0.2.0/25",
            "ban add 192.0.2.7",
            "ban add sender.example --for 1h",
            "ban add 192.0.2.7 --for 5",
            "ban lift",
            "ban lift 192.0.2.7 --all",
            "greylist allow sender..example",
            "greylist allow sender",
            "greylist stats --days 0",
            "greylist lost --limit 0",
            "spam learn mail.eml",
            "spam learn --spam",
            "spam learn --spam --ham mail.eml",
            "recipient list",
            "recipient add",
            "recipient check joe",
            "domain show a..b",
            "trace",
            "rules test",
            "spam explain",
            "spam replay --since 7",
            "spam replay --set LINK_TO_ADDRESS",
            "spam replay --set LINK_TO_ADDRESS=many",
            "spam replay --levels none=1",
            "spam replay --limit x",
            "spam replay --domain a..b",
            "rules test x.eml --rdns a..b",
            "check-client sender.example",
            "check-client 192.0.2.7 --to jane",
            "serve --json",
            "serve --frobnicate",
        ] {
            assert_eq!(read(line).err(), Some(2), "{line}");
        }
        assert_eq!(read("--help").err(), Some(0));
        assert_eq!(read("queue drop --help").err(), Some(0));
        assert_eq!(read("--version").err(), Some(0));
    }

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_broken_configuration_still_leads_to_its_gateway() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("feedgate.toml");
        std::fs::write(&file, "data_dir = \"/var/lib/feedgate\"\nlisten = 25\n").unwrap();
        assert_eq!(data_dir_alone(&file), Some(PathBuf::from("/var/lib/feedgate")));
        std::fs::write(&file, "data_dir = ").unwrap();
        assert_eq!(data_dir_alone(&file), None);
    }
}
