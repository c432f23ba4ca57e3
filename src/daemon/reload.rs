//! New settings while running: on SIGHUP and when a file changes. What does not validate leaves the old settings in force and
//! says why; what does is swapped in whole. A session keeps the settings it began with; a message takes those of its moment.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::config::{Config, Source};
use crate::flow::{Base, Flow};
use crate::net::server_tls;
use crate::spam::Engine;

/// What a reload changes.
#[derive(Clone)]
pub struct Reload {
    pub source: Source,
    pub flow: Arc<Flow>,
    pub tls: Arc<ArcSwapOption<rustls::ServerConfig>>,
}

impl Reload {
    /// Reads everything again. `Err`: nothing was changed, and why, for the operator.
    pub async fn reload(&self) -> Result<String, String> {
        let this = self.clone();
        let outcome = tokio::task::spawn_blocking(move || this.reload_blocking()).await;
        let outcome = outcome.unwrap_or_else(|error| Err(format!("reading the settings failed: {error}")));
        match &outcome {
            Ok(text) => tracing::info!("{text}"),
            Err(why) => tracing::error!("the new settings are not used, the old ones stay in force:\n{why}"),
        }
        outcome
    }

    fn reload_blocking(&self) -> Result<String, String> {
        let config = self.source.load().map_err(|errors| errors.to_string())?;
        let tls = config.smtp.tls.as_ref().map(server_tls).transpose()?;
        let engine = engine(&config)?;
        let old = self.flow.config();
        let later = needs_restart(&old, &config);
        let domains = config.domains.len();
        self.tls.store(tls);
        self.flow.lessons.set_base(base(&engine));
        self.flow.engine.store(Arc::new(engine));
        let config = Arc::new(config);
        self.flow.checks.recipients.reload(&config);
        self.flow.config.store(Arc::clone(&config));
        self.flow.queue.reloaded(&old, &config);
        let later = if later.is_empty() { String::new() } else { format!("; {} only count after a restart", later.join(", ")) };
        Ok(format!("settings read again: {domains} domains{later}"))
    }
}

/// The rules of the settings, or the built-in ones, with the local layer on top.
pub fn engine(config: &Config) -> Result<Engine, String> {
    Engine::configured(config.rules.as_deref(), config.rules_local.as_deref()).map_err(|errors| errors.to_string())
}

/// What lessons are learned on top of: the token model's log-odds.
pub fn base(engine: &Engine) -> Base {
    match engine.model() {
        Some(model) => Arc::new(move |tokens| model.log_odds(tokens)),
        None => Arc::new(|_| 0.0),
    }
}

/// Keys whose change cannot be taken up while running.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let changed = [
        ("data_dir", old.data_dir != new.data_dir),
        ("smtp.listen", old.smtp.listen != new.smtp.listen),
        ("dns", old.dns != new.dns),
        ("clamav", old.clamav != new.clamav),
        ("admin.listen", old.admin != new.admin),
        ("log", old.log != new.log),
    ];
    changed.into_iter().filter_map(|(key, changed)| changed.then_some(key)).collect()
}
