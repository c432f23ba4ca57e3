//! `feedgate domain …`: the domains that are served, from the running gateway, or from the file when none runs.

use std::time::Duration;

use clap::Subcommand;

use super::{Context, Failure};
use crate::admin::answers::{DomainView, LevelView, ListEntryView, OriginView};
use crate::admin::client::{ClientError, encoded};
use crate::admin::output::{Grid, counted, moment, moment_and_relative, printable, relative, span};
use crate::config::Config;
use crate::config::units::show_duration;
use crate::mail::{Domain, Timestamp};
use crate::queue::Extension;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// All domains with their servers and what waits for them
    List,
    /// One domain's settings
    Show { domain: Domain },
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::List => {
            let views = match context.client()?.get::<Vec<DomainView>>("/v1/domains").await {
                Err(ClientError::NotRunning { .. }) => views(&from_file(context)?),
                answer => answer?,
            };
            context.show(&views, |views| list_text(views, context.now(), context.width))
        }
        Command::Show { domain } => {
            let view = match context.client()?.get::<DomainView>(&format!("/v1/domains/{}", encoded(domain.as_str()))).await {
                Err(ClientError::NotRunning { .. }) => {
                    let config = from_file(context)?;
                    let missing = || Failure::CouldNot(format!("{domain} is not served here"));
                    let settings = config.domain(&domain).ok_or_else(missing)?;
                    DomainView::new(&domain, settings, None).with_details(settings)
                }
                answer => answer?,
            };
            context.show(&view, |view| show_text(view, context.now()))
        }
    }
}

fn from_file(context: &Context) -> Result<Config, Failure> {
    let config = Config::load(&context.config)?;
    context.note("not running; this is what the configuration says");
    Ok(config)
}

/// The domains of a configuration that is not in force.
pub fn views(config: &Config) -> Vec<DomainView> {
    config.domains.iter().map(|(domain, settings)| DomainView::new(domain, settings, None)).collect()
}

/// A line for each domain.
pub fn list_text(views: &[DomainView], now: Timestamp, width: Option<usize>) -> String {
    if views.is_empty() {
        return "No domain is served.\n".to_owned();
    }
    let live = views.iter().any(|view| view.queue.is_some());
    let header: &[&str] = &["DOMAIN", "DELIVER TO", "GREYLIST", "LIFETIME", "SPAM LOW/MED/HIGH", "WAITING", "OLDEST"];
    let mut grid = Grid::new(if live { header } else { &header[..5] }, &["DOMAIN", "DELIVER TO"]);
    for view in views {
        let mut cells = vec![
            view.domain.to_string(),
            view.deliver_to.join(", "),
            on_off(view.greylist).to_owned(),
            span(view.lifetime()),
            spam_text(view),
        ];
        if let Some(queue) = &view.queue {
            cells.push(queue.waiting.to_string());
            cells.push(queue.oldest.map_or("-".to_owned(), |oldest| relative(oldest, now)));
        }
        grid.row(cells);
    }
    grid.render(width, 0)
}

fn spam_text(view: &DomainView) -> String {
    if !view.spam_enabled {
        return "off".to_owned();
    }
    format!("{}/{}/{}", view.low.action, view.med.action, view.high.action)
}

fn show_text(view: &DomainView, now: Timestamp) -> String {
    let mut text = String::new();
    let mut add = |name: &str, value: &str| text += &format!("{name:<12} {}\n", printable(value));
    let unicode = view.domain.to_unicode();
    let also = if unicode == view.domain.as_str() { String::new() } else { format!(" ({unicode})") };
    add("domain", &format!("{}{also}", view.domain));
    add("file", &view.file.display().to_string());
    add("deliver to", &view.deliver_to.join(", then "));
    let from = |value: &str, key: &str| format!("{value}{}", origin_text(view, key));
    add("greylist", &from(on_off(view.greylist), "greylist"));
    add("lifetime", &from(&span(view.lifetime()), "lifetime"));
    if !view.retry_seconds.is_empty() {
        let waits: Vec<_> = view.retry_seconds.iter().map(|wait| show_duration(Duration::from_secs(*wait))).collect();
        add("retry", &from(&format!("after {}", waits.join(", ")), "retry"));
    }
    if let Some(most) = view.outage_lifetime_max_seconds {
        let most = format!("up to {}", span(Duration::from_secs(most)));
        add("in an outage", &from(&most, "outage_lifetime_max"));
    }
    add("unscannable", &from(&view.unscannable, "unscannable"));
    add("spam", &from(on_off(view.spam_enabled), "spam.enabled"));
    if view.spam_enabled {
        add("  low", &level_text(view, &view.low, "spam.low"));
        add("  med", &level_text(view, &view.med, "spam.med"));
        add("  high", &level_text(view, &view.high, "spam.high"));
        add("  share", &from(&view.share, "spam.share"));
        let mut list = |name: &str, entries: Vec<String>, key: &str| {
            // What stands in neither layer is not worth a line.
            if view.origins.get(key).is_some_and(|origin| origin.layer != "default") {
                let entries = if entries.is_empty() { "none of its own".to_owned() } else { entries.join(", ") };
                add(name, &from(&entries, key));
            }
        };
        list("  people", view.people.clone(), "spam.people");
        list("  allow", view.allow.iter().map(entry_text).collect(), "spam.allow");
        list("  block", view.block.iter().map(entry_text).collect(), "spam.block");
    }
    if let Some(Extension { until, at, by, reason, .. }) = &view.extension {
        let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        add("extended", &format!("until {}, by {by} on {}{why}", moment_and_relative(*until, now), moment(*at)));
    }
    if let Some(queue) = &view.queue {
        let oldest = queue.oldest.map(|oldest| format!(", the oldest from {}", relative(oldest, now))).unwrap_or_default();
        let waiting = counted(queue.waiting, "recipient");
        add("queue", &format!("{waiting} waiting, {} held, {} quarantined{oldest}", queue.held, queue.quarantined));
        if !queue.last_reply.is_empty() {
            add("last reply", &queue.last_reply);
        }
    }
    if let Some(outage) = &view.outage {
        let lines = super::status::outage_lines(outage, now);
        lines.iter().zip(std::iter::once("outage").chain(std::iter::repeat(""))).for_each(|(line, name)| add(name, line));
    }
    text
}

/// The action and what it puts in front of the subject, which may stand in two places.
fn level_text(view: &DomainView, level: &LevelView, key: &str) -> String {
    let action = origin_text(view, key);
    if level.action != "subject" {
        return format!("{}{action}", level.action);
    }
    let text = origin_text(view, &format!("{key}_text"));
    let between = if action == text { String::new() } else { action };
    format!("subject{between} \"{}\"{text}", level.text)
}

fn entry_text(entry: &ListEntryView) -> String {
    format!("{}{}", entry.from, if entry.unauthenticated { " (without proof)" } else { "" })
}

/// ` (domain, domains/a.toml)`; empty from a gateway that does not tell.
fn origin_text(view: &DomainView, key: &str) -> String {
    let Some(OriginView { layer, file, then }) = view.origins.get(key) else { return String::new() };
    let place = file.as_ref().map_or_else(String::new, |file| format!(", {}", file.display()));
    let then = then.as_ref().map_or_else(String::new, |then| format!(", then the platform's in {}", then.display()));
    format!(" ({layer}{place}){then}")
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::DomainCounts;
    use std::collections::BTreeMap;
    use std::path::Path;

    const NOW: Timestamp = Timestamp(1_795_214_160_000);

    fn view(queue: Option<DomainCounts>) -> DomainView {
        let level = |action: &str| LevelView { action: action.to_owned(), text: "[SPAM: low] ".to_owned() };
        DomainView {
            domain: "bücher.example".parse().unwrap(),
            file: "/etc/feedgate/feedgate.toml".into(),
            deliver_to: vec!["203.0.113.5:25".to_owned(), "mail2.customer.example:2525".to_owned()],
            greylist: true,
            lifetime_seconds: 2 * 86_400,
            retry_seconds: Vec::new(),
            outage_lifetime_max_seconds: None,
            unscannable: "quarantine".to_owned(),
            spam_enabled: true,
            low: level("subject"),
            med: level("subject"),
            high: level("reject"),
            share: "50%".to_owned(),
            people: Vec::new(),
            allow: Vec::new(),
            block: Vec::new(),
            origins: BTreeMap::new(),
            queue,
            outage: None,
            extension: None,
        }
    }

    #[test]
    fn a_domain_is_listed_with_what_waits_for_it() {
        let queue = DomainCounts { waiting: 7, oldest: Some(NOW - Duration::from_secs(7200)), ..DomainCounts::default() };
        let text = list_text(&[view(Some(queue))], NOW, None);
        assert!(text.ends_with("on        2 d       subject/subject/reject  7        2 h ago\n"), "{text}");
        assert!(!list_text(&[view(None)], NOW, None).contains("WAITING"));
    }

    #[test]
    fn who_extended_a_domain_and_why_is_shown() {
        let extension = Extension {
            domain: "bücher.example".parse().unwrap(),
            until: NOW + Duration::from_secs(7 * 86_400),
            at: NOW,
            by: "alice (uid 0)".to_owned(),
            reason: "new server on Monday".to_owned(),
        };
        let text = show_text(&DomainView { extension: Some(extension), ..view(None) }, NOW);
        let line =
            "extended     until 2026-11-27 22:36:00Z (in 7 d), by alice (uid 0) on 2026-11-20 22:36:00Z: new server on Monday\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn a_domain_is_shown_under_both_its_names() {
        let text = show_text(&view(None), NOW);
        assert!(text.starts_with("domain       xn--bcher-kva.example (bücher.example)\n"), "{text}");
        assert!(text.contains("deliver to   203.0.113.5:25, then mail2.customer.example:2525\n"), "{text}");
        assert!(text.contains("  low        subject \"[SPAM: low] \"\n  med "), "{text}");
        assert!(text.ends_with("  high       reject\n  share      50%\n"), "{text}");
    }

    #[test]
    fn every_value_says_where_it_stands() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        std::fs::create_dir(directory.path().join("domains")).unwrap();
        write(
            "feedgate.toml",
            "hostname = \"mx1.isp.example\"\n[queue]\nlifetime = \"3d\"\n\
             [spam]\nenabled = true\nmed = \"quarantine\"\nhigh_text = \"[S] \"\nallow = [\"192.0.2.0/24\"]\n\
             [domains.\"main.example\"]\ndeliver_to = [\"203.0.113.5\"]\nspam.low = \"none\"\n",
        );
        write(
            "domains/a.toml",
            "[domains.\"a.example\"]\ndeliver_to = [\"203.0.113.5\"]\ngreylist = \"off\"\n\
             spam = { high = \"subject\", share = \"20%\", allow = [\"*.partner.example\", \
             { from = \"old.example\", unauthenticated = true }] }\n",
        );
        let config = Config::load(&directory.path().join("feedgate.toml")).unwrap();
        let views: Vec<_> = config
            .domains
            .iter()
            .map(|(domain, settings)| DomainView::new(domain, settings, None).with_details(settings))
            .collect();
        let shown = |view: &DomainView| show_text(view, NOW).split_once("greylist").unwrap().1.to_owned();
        let expected = "     off (domain, domains/a.toml)\n\
            lifetime     3 d (platform, feedgate.toml)\n\
            retry        after 1m, 2m, 5m, 10m, 15m (default)\n\
            unscannable  quarantine (default)\n\
            spam         on (platform, feedgate.toml)\n  \
            low        subject \"[SPAM: low] \" (default)\n  \
            med        quarantine (platform, feedgate.toml)\n  \
            high       subject (domain, domains/a.toml) \"[S] \" (platform, feedgate.toml)\n  \
            share      20% (domain, domains/a.toml)\n  \
            allow      *.partner.example, old.example (without proof) (domain, domains/a.toml), \
            then the platform's in feedgate.toml\n";
        assert_eq!(shown(&views[0]), expected);
        let main = shown(&views[1]);
        assert!(main.contains("low        none (domain, feedgate.toml)\n"), "{main}");
        assert!(main.contains("allow      none of its own (platform, feedgate.toml)\n"), "{main}");
        let json = serde_json::to_value(&views[0]).unwrap();
        assert_eq!(json["origins"]["spam.share"]["layer"], "domain");
        assert_eq!(json["origins"]["spam.share"]["file"].as_str().map(Path::new), Some(Path::new("domains/a.toml")));
        assert_eq!(json["origins"]["spam.low"], serde_json::json!({ "layer": "default" }));
    }
}
