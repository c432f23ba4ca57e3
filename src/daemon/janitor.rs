//! What has to be done from time to time: prove the scanner every minute and DNS lists every hour; throw away, every hour, what has
//! expired in greylist, bans, recipients, quarantine and history, and count the queue against the ledger.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::checks::ListStatus;
use crate::flow::Flow;
use crate::outside::{Scanner, ScannerHealth};
use crate::scan::Pool;
use crate::store::History;
use crate::telemetry::Metrics;

/// While no scanner is up, mail waits for one: it is asked at each look.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const PROVE_EVERY: Duration = Duration::from_secs(60);
/// After the start: greylist counts then what it remembers.
const FIRST_SWEEP: Duration = Duration::from_secs(60);
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// Runs until told to stop.
pub async fn run(flow: Arc<Flow>, scanner: Arc<Pool>, history: History, mut stop: watch::Receiver<bool>) {
    let (mut prove_due, mut sweep_due) = (flow.now() + PROVE_EVERY, flow.now() + FIRST_SWEEP);
    loop {
        let up = matches!(scanner.health(), ScannerHealth::Up { .. });
        flow.maillog.metrics().scanner_up.set(i64::from(up));
        if !up || flow.now() >= prove_due {
            scanner.prove().await;
            prove_due = flow.now() + PROVE_EVERY;
        }
        look_after_lists(&flow);
        flow.store.vectors().write_gathered().await;
        if flow.now() >= sweep_due {
            sweep(&flow, &history).await;
            sweep_due = flow.now() + SWEEP_EVERY;
        }
        tokio::select! {
            () = flow.clock.sleep_until(flow.now() + LOOK_EVERY) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// DNS lists are proved when they are new and hourly; the proofs run beside.
fn look_after_lists(flow: &Flow) {
    let config = flow.config();
    flow.checks.clients.prove_lists(&config);
    flow.checks.uris.prove(&config);
    for list in flow.checks.clients.lists_status(&config).into_iter().chain(flow.checks.uris.status(&config)) {
        let ListStatus { zone, shadow, listed, not_listed, errors, unanswered, .. } = list;
        let answers = [("listed", listed), ("not-listed", not_listed), ("error", errors), ("unanswered", unanswered)];
        flow.maillog.metrics().list(zone.as_str(), shadow.is_none(), answers);
    }
}

/// Every recipient accepted must be somewhere; where one is not, an operator has to know.
pub fn ledger(metrics: &Metrics, differences: &[String]) {
    metrics.ledger_differences.set(differences.len() as i64);
    for different in differences {
        tracing::error!(different, "the ledger does not balance (feedgate queue verify tells more)");
    }
}

async fn sweep(flow: &Flow, history: &History) {
    let now = flow.now();
    let greylist = flow.checks.greylist.sweep(now).await;
    let limits = flow.checks.limiter.sweep(&flow.config().limits, now).await;
    let recipients = flow.checks.recipients.sweep(&flow.config(), now, |domain| flow.queue.is_away(domain)).await;
    let cases = flow.checks.cases.sweep(now).await;
    let reputation = flow.checks.acquaintance.reputation.sweep(now).await;
    let lines = history.sweep(now - flow.config().queue.history).await;
    flow.store.vectors().sweep(now - flow.config().queue.history).await;
    let quarantine = flow.queue.sweep().await.unwrap_or_else(|error| {
        tracing::error!(%error, "old quarantined messages could not be deleted; trying again in an hour");
        0
    });
    match flow.store.check_ledger().await {
        Ok(differences) => ledger(flow.maillog.metrics(), &differences),
        Err(error) => tracing::error!(%error, "the ledger could not be checked; trying again in an hour"),
    }
    tracing::info!(greylist, limits, recipients, cases, reputation, history = lines, quarantine, "expired entries removed");
}
