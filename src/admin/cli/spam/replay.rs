//! `feedgate spam replay`: what other points, rules or levels would have made of the mail of the last days.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::super::{Context, Failure};
use crate::admin::output::{Grid, counted, moment};
use crate::admin::replay::{Levels, ReplayOrder, Replayed};
use crate::admin::selection::duration;
use crate::mail::Domain;
use crate::spam::{Engine, Replay, RuleFile, RuleSources};

/// Messages of queue and quarantine that are judged at most.
const QUEUE_MAX: u64 = 5_000;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Look so far back
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = age)]
    since: String,
    /// With the rules of this directory: whole ones when it has levels.toml, else a local layer in the place of the one in force
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
    /// With other points for a rule, shadow or not; may be given several times
    #[arg(long, value_name = "RULE=POINTS", value_parser = points)]
    set: Vec<(String, f32)>,
    /// With other levels, such as low=4,high=11
    #[arg(long, value_name = "LEVEL=POINTS,…", value_parser = levels)]
    levels: Option<Levels>,
    /// Only what this domain would see
    #[arg(long)]
    domain: Option<Domain>,
    /// Show so many examples
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..=1000))]
    limit: u16,
    /// Judge what is in queue and quarantine anew, instead of counting old hits again: also tries new conditions
    #[arg(long)]
    queue: bool,
}

fn age(text: &str) -> Result<String, String> {
    duration(text).map(|_| text.to_owned())
}

fn number(text: &str) -> Result<f32, String> {
    let number = text.trim().parse::<f32>().ok().filter(|points| points.is_finite() && points.abs() <= 1000.0);
    number.ok_or_else(|| format!("{text:?} is no number between -1000 and 1000"))
}

fn points(text: &str) -> Result<(String, f32), String> {
    let (rule, points) = text.split_once('=').ok_or_else(|| "write RULE=POINTS, such as LINK_TO_ADDRESS=1.5".to_owned())?;
    let rule = rule.trim().to_ascii_uppercase();
    if rule.is_empty() { Err("which rule? Write RULE=POINTS".to_owned()) } else { Ok((rule, number(points)?)) }
}

fn levels(text: &str) -> Result<Levels, String> {
    let mut levels = Levels::default();
    for part in text.split(',') {
        let (level, points) = part.split_once('=').ok_or_else(|| "write LEVEL=POINTS, such as low=4,high=11".to_owned())?;
        let place = match level.trim() {
            "low" => &mut levels.low,
            "med" => &mut levels.med,
            "high" => &mut levels.high,
            other => return Err(format!("{other:?} is no level with a threshold; these are low, med and high")),
        };
        if place.replace(number(points)?).is_some() {
            return Err(format!("{} is given twice", level.trim()));
        }
    }
    Ok(levels)
}

/// What is shown.
#[derive(Debug, Serialize)]
struct Shown {
    /// Where was looked.
    of: &'static str,
    #[serde(flatten)]
    replayed: Replayed,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { since, rules, set, levels, domain, limit, queue } = arguments;
    let mut order = ReplayOrder {
        since,
        domain,
        examples: limit.into(),
        points: set,
        levels: levels.unwrap_or_default(),
        ..ReplayOrder::default()
    };
    match rules.as_deref().map(read).transpose()? {
        Some(Rules::Whole(sources)) => order.rules = Some(sources),
        Some(Rules::Layer(files)) => order.local = Some(files),
        None => {}
    }
    let shown = if queue {
        Shown { of: "queue and quarantine", replayed: in_pieces(context, order).await? }
    } else {
        Shown { of: "judged mail", replayed: context.client()?.post("/v1/spam/replay", &order).await? }
    };
    context.show(&shown, |shown| text(shown, context.width))
}

enum Rules {
    Whole(RuleSources),
    Layer(Vec<RuleFile>),
}

/// Mistakes in whole rules are told before anything is asked; those of a layer by the gateway, whose rules it stands on.
fn read(directory: &Path) -> Result<Rules, Failure> {
    let wrong = |errors: crate::spam::RuleErrors| Failure::Configuration(errors.to_string());
    if directory.join("levels.toml").exists() {
        let sources = RuleSources::read(directory).map_err(wrong)?;
        Engine::from_sources(sources.clone()).map_err(wrong)?;
        return Ok(Rules::Whole(sources));
    }
    let RuleSources { local, .. } = RuleSources::default().with_local(directory).map_err(wrong)?;
    if local.is_empty() {
        return Err(Failure::CouldNot(format!("{}: there is no rule file (*.toml)", directory.display())));
    }
    Ok(Rules::Layer(local))
}

/// The queue, a piece at a time, with its progress on a terminal.
async fn in_pieces(context: &Context, mut order: ReplayOrder) -> Result<Replayed, Failure> {
    let client = context.client()?;
    let watched = std::io::stderr().is_terminal() && !context.json;
    let mut all = Replayed { replay: Replay::default(), ..Replayed::default() };
    loop {
        let piece: Replayed = client.post("/v1/spam/replay/queue", &order).await?;
        all.replay.add(piece.replay, order.examples);
        all.left_out += piece.left_out;
        all.cut = piece.after.is_some() && all.replay.messages + all.left_out >= QUEUE_MAX;
        if watched {
            context.note(&format!("{} judged", counted(all.replay.messages, "message")));
        }
        order.after = piece.after;
        if order.after.is_none() || all.cut {
            return Ok(all);
        }
    }
}

fn text(shown: &Shown, width: Option<usize>) -> String {
    let Shown { of, replayed: Replayed { replay, cut, left_out, .. } } = shown;
    let mut text = format!("{} of {of}", counted(replay.messages, "message"));
    if let (Some(first), Some(last)) = (replay.first, replay.last) {
        text += &format!(", judged from {} to {}", moment(first), moment(last));
    }
    text += "\n";
    if *cut {
        text += "there were more: only the oldest ones were looked at\n";
    }
    if *left_out > 0 {
        text += &format!(
            "{} could not be judged: no verdict of the virus scanner yet, or gone meanwhile\n",
            counted(*left_out, "message")
        );
    }
    if replay.drifted > 0 {
        let drifted = counted(replay.drifted, "message");
        text += &format!("{drifted} were judged by other rules than those in force: part of a change may be theirs\n");
    }
    text += &format!("\n{}", domains_text(replay, width));
    text += &examples_text(replay, width);
    text += &shadow_text(replay, width);
    for unknown in &replay.unknown {
        text += &format!("{}: {}\n", unknown.rule, unknown.why);
    }
    text
}

fn domains_text(replay: &Replay, width: Option<usize>) -> String {
    let mut grid = Grid::new(&["DOMAIN", "MESSAGES", "FROM", "TO", "WOULD CHANGE"], &["DOMAIN"]);
    let mut changed = false;
    for domain in &replay.domains {
        for shift in &domain.shifts {
            changed = true;
            let (messages, count) = (domain.messages.to_string(), shift.messages.to_string());
            grid.row([domain.domain.as_str(), &messages, shift.from.as_str(), shift.to.as_str(), &count]);
        }
    }
    if changed { grid.render(width, 0) } else { "No level would change.\n".to_owned() }
}

fn examples_text(replay: &Replay, width: Option<usize>) -> String {
    if replay.examples.is_empty() {
        return String::new();
    }
    let mut grid = Grid::new(&["ID", "AUTHOR", "DOMAIN", "BEFORE", "AFTER", "BY"], &["AUTHOR", "DOMAIN", "BY"]);
    for example in &replay.examples {
        let author = example.author.as_ref().map_or("-", Domain::as_str);
        let before = format!("{} {:.2}", example.from, example.score_from);
        let after = format!("{} {:.2}", example.to, example.score_to);
        grid.row([&example.id.to_string(), author, example.domain.as_str(), &before, &after, &example.by.join(", ")]);
    }
    format!("\n{}", grid.render(width, 0))
}

fn shadow_text(replay: &Replay, width: Option<usize>) -> String {
    if replay.shadow.is_empty() {
        return String::new();
    }
    let mut grid = Grid::new(&["IN SHADOW", "POINTS", "HITS", "WOULD CHANGE"], &[]);
    for count in &replay.shadow {
        let (hits, changes) = (count.hits.to_string(), count.changes.to_string());
        grid.row([&count.rule, &format!("{:+.1}", count.points), &hits, &changes]);
    }
    format!("\n{}", grid.render(width, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_and_mistakes_told() {
        assert_eq!(points("link_to_address=1.5"), Ok(("LINK_TO_ADDRESS".to_owned(), 1.5)));
        for wrong in ["LINK", "LINK=", "LINK=many", "LINK=NaN", "=1", "LINK=5000"] {
            assert!(points(wrong).is_err(), "{wrong}");
        }
        assert_eq!(levels("low=4,high=11"), Ok(Levels { low: Some(4.0), med: None, high: Some(11.0) }));
        for wrong in ["low", "none=1", "low=1,low=2", "low=x", ""] {
            assert!(levels(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rehearsal_reads_as_tables() {
        let replay: Replay = serde_json::from_value(serde_json::json!({
            "messages": 3, "first": 1_795_214_160_000_u64, "last": 1_795_214_161_000_u64, "drifted": 0,
            "domains": [{"domain": "customer.example", "messages": 3, "shifts": [{"from": "low", "to": "none", "messages": 2}]}],
            "examples": [{"id": "01hk3c9v7x00.1", "at": 1, "domain": "customer.example", "author": "sender.example", "from": "low",
                "to": "none", "score_from": 4.5, "score_to": 3.5, "by": ["LINK_TO_ADDRESS 2 → 1"]}],
            "unknown": [{"rule": "NEW", "why": "new"}],
            "shadow": [{"rule": "HINT", "points": 1.5, "hits": 2, "changes": 1}],
        }))
        .unwrap();
        let shown = Shown { of: "judged mail", replayed: Replayed { replay, ..Replayed::default() } };
        let expected = "\
3 messages of judged mail, judged from 2026-11-20 22:36:00Z to 2026-11-20 22:36:01Z

DOMAIN            MESSAGES  FROM  TO    WOULD CHANGE
customer.example  3         low   none  2

ID              AUTHOR          DOMAIN            BEFORE    AFTER      BY
01hk3c9v7x00.1  sender.example  customer.example  low 4.50  none 3.50  LINK_TO_ADDRESS 2 → 1

IN SHADOW  POINTS  HITS  WOULD CHANGE
HINT       +1.5    2     1
NEW: new
";
        assert_eq!(text(&shown, None), expected);
    }
}
