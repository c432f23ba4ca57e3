//! `feedgate spam stats`: what was learned, by whom it counts for and what it was called.

use clap::Args;

use super::super::{Context, Failure};
use crate::admin::output::{Grid, counted, relative};
use crate::flow::LessonStats;
use crate::mail::{Domain, Timestamp};

const DAY_MILLIS: u64 = 86_400_000;

#[derive(Debug, Args)]
pub struct Arguments {}

pub async fn run(context: &Context, _arguments: Arguments) -> Result<(), Failure> {
    let stats: LessonStats = context.client()?.get("/v1/lessons").await?;
    context.show(&stats, |stats| text(stats, context.now(), context.width))
}

fn text(stats: &LessonStats, now: Timestamp, width: Option<usize>) -> String {
    if stats.lessons.scopes.is_empty() {
        return "Nothing was learned yet; `feedgate spam learn --help` tells how.\n".to_owned();
    }
    let mut grid = Grid::new(&["SCOPE", "SPAM", "HAM", "OLDEST", "NEWEST"], &["SCOPE"]);
    for scope in &stats.lessons.scopes {
        grid.row([
            scope.domain.as_ref().map_or("(all mail)", Domain::as_str).to_owned(),
            scope.spam.to_string(),
            scope.ham.to_string(),
            date(scope.oldest_day),
            date(scope.newest_day),
        ]);
    }
    let mut text = grid.render(width, 0);
    let (weights, domains) = (stats.weights_platform, stats.weights_domains);
    text += &format!("\nweights      {weights} for all mail, {domains} for single domains\n");
    if let Some(training) = stats.training {
        let examples = counted(training.examples as u64, "example");
        let due = if stats.training_due { "; more was learned since and will count in a moment" } else { "" };
        let took = training.took_millis;
        text += &format!("made         {} from {examples} in {took} ms{due}\n", relative(training.at, now));
    }
    text + &format!("on disk      {} bytes, {} of them in use\n", stats.lessons.bytes, stats.lessons.live_bytes)
}

/// `2026-11-20`
fn date(day: u32) -> String {
    Timestamp(u64::from(day) * DAY_MILLIS).rfc3339().chars().take(10).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Training;
    use crate::store::{LessonStatistics, ScopeStatistics};

    #[test]
    fn what_was_learned_is_shown_by_scope() {
        let now = Timestamp(1_795_214_160_000);
        let scope = |domain: Option<&str>| ScopeStatistics {
            domain: domain.map(|name| name.parse().unwrap()),
            spam: 12,
            ham: 3,
            oldest_day: 20_700,
            newest_day: 20_777,
        };
        let stats = LessonStats {
            lessons: LessonStatistics {
                scopes: vec![scope(None), scope(Some("customer.example"))],
                bytes: 5000,
                live_bytes: 4000,
            },
            weights_platform: 700,
            weights_domains: 50,
            training: Some(Training { at: now, examples: 30, took_millis: 14 }),
            training_due: false,
        };
        let text = text(&stats, now, Some(100));
        assert!(text.contains("(all mail)        12    3    2026-09-04  2026-11-20\n"), "{text}");
        assert!(text.ends_with(
            "\nweights      700 for all mail, 50 for single domains\nmade         now from 30 examples in 14 ms\n\
             on disk      5000 bytes, 4000 of them in use\n"
        ));
        assert!(super::text(&LessonStats::default(), now, None).starts_with("Nothing was learned yet"));
    }
}
