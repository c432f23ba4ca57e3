//! The running gateway: wiring, listeners, sessions, reload and shutdown. It knows how everything is put together and decides
//! nothing about mail.

mod alerts;
mod clock;
mod janitor;
mod listener;
mod log;
mod proxy;
mod reload;
mod session;
mod wiring;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;

use crate::config::{Config, LogFormat, Source};
use crate::outside::Clock;

pub use alerts::run as tell_alerts;
pub use clock::SystemClock;
pub use session::serve as serve_session;

/// `feedgate serve`: runs until SIGTERM or SIGINT. Errors are for the operator: what could not be started and why.
pub fn serve(config_path: &Path) -> anyhow::Result<ExitCode> {
    let source = Source::new(config_path);
    let config = source.load().map_err(|errors| anyhow::anyhow!("{errors}"))?;
    start_log(&config)?;
    // One provider for the whole process: rustls would have to guess otherwise.
    let _ = rustls::crypto::ring::default_provider().install_default();
    raise_open_files();
    // Mail and the greylist are nobody else's business on this machine: what is created is readable by this user only.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime could not be started")?;
    runtime.block_on(wiring::run(source, config))?;
    Ok(ExitCode::SUCCESS)
}

/// The system's clock, for commands that need the time.
pub fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

/// The log goes to standard error, where systemd and a terminal expect it.
fn start_log(config: &Config) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log.filter).context("log.filter cannot be read")?;
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| log::Guarded(std::io::stderr())).with_target(false);
    match config.log.format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
    }
    Ok(())
}

/// 10,000 sessions need as many file descriptors: the soft limit is raised to the hard one. A low hard limit is reported.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    if limit.maximum.is_some_and(|most| most < 16_384) {
        tracing::warn!(
            limit = limit.maximum,
            "few open files are allowed (ulimit -n): not all of limits.connections can be open at a time"
        );
    }
}
