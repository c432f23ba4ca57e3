//! Tells of outages whoever the settings name: a command, a webhook. Mail does not wait for this. What was not told when the
//! gateway stops, or could not be told, stands in the log.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::flow::Flow;
use crate::net::{post_json, run_hook};
use crate::queue::Alert;

/// How long a command or webhook may take, in real time.
const PATIENCE: Duration = Duration::from_secs(30);
/// Alerts told at a time.
const TOLD_MAX: usize = 4;

/// Runs until told to stop.
pub async fn run(flow: Arc<Flow>, mut stop: watch::Receiver<bool>) {
    let Some(mut alerts) = flow.queue.alerts() else { return };
    // Goes with this function: what is under way then is cut off.
    let mut telling = JoinSet::new();
    loop {
        let alert = tokio::select! {
            alert = alerts.recv() => alert,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Some(alert) = alert else { return };
        while telling.len() >= TOLD_MAX {
            telling.join_next().await;
        }
        telling.spawn(tell(flow.config(), alert));
    }
}

/// Runs the command and calls the webhook. When one of them fails, the log says so, as it has said what was to be told.
async fn tell(config: Arc<Config>, alert: Alert) {
    let command = async {
        if let Some((program, arguments)) = &config.alerts.command
            && let Err(why) = run_hook(program, arguments, alert.environment(), PATIENCE).await
        {
            tracing::error!(domain = alert.domain, program = %program.display(), why, "alerts.command was not told");
        }
    };
    let webhook = async {
        if let Some(url) = &config.alerts.webhook
            && let Err(why) = post_json(url, alert.json(), PATIENCE).await
        {
            tracing::error!(domain = alert.domain, host = url.host(), why, "alerts.webhook was not told");
        }
    };
    tokio::join!(command, webhook);
}
