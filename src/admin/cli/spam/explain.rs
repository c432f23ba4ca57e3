//! `feedgate spam explain FILE|ID`: why a message got its level, and what would change it.
//!
//! A file is judged now, by the rules of the configuration and without a running gateway; a message that went through the gateway is
//! explained by what was recorded then.

use std::path::{Path, PathBuf};

use clap::Args;

use super::super::rules::engine;
use super::super::{Context, Failure};
use super::saved;
use crate::admin::client::encoded;
use crate::admin::explain::{DomainExplained, Explained};
use crate::admin::output::{Grid, moment_and_relative, printable};
use crate::mail::{QueueId, Timestamp};
use crate::spam::{Cut, Distance, Explanation, Facts, Reason, Thresholds};

#[derive(Debug, Args)]
pub struct Arguments {
    /// A message in a file (.eml; - is standard input), or a queue id
    #[arg(value_name = "FILE|ID")]
    of: PathBuf,
    #[command(flatten)]
    door: saved::Door,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { of, door } = arguments;
    if of == Path::new("-") || of.exists() {
        return file(context, &of, door);
    }
    let Some(id) = of.to_str().and_then(|text| text.trim().parse::<QueueId>().ok()) else {
        let text = format!("{}: there is no such file, and a queue id looks like 01hk3c9v7x00.1", of.display());
        return Err(Failure::CouldNot(text));
    };
    let explained: Explained = context.client()?.get(&format!("/v1/spam/explain?id={}", encoded(&id.to_string()))).await?;
    show(context, &explained)
}

/// Judges a message in a file.
pub fn file(context: &Context, file: &Path, door: saved::Door) -> Result<(), Failure> {
    let content = saved::read(file)?;
    let engine = engine(context)?;
    let envelope = saved::envelope(&content, door, context.now());
    let head = &content[..content.len().min(Facts::CONTENT_MAX as usize)];
    let assessment = engine.assess(&Facts::gather(&envelope, head));
    let explanation = Explanation::new(&engine, assessment.score, assessment.level, &assessment.hits, Some(&assessment.fired));
    let explained = Explained {
        message: file.display().to_string(),
        at: context.now(),
        author: assessment.author,
        explanation,
        tokens: assessment.tokens,
        domains: Vec::new(),
        line: None,
        notes: Vec::new(),
    };
    show(context, &explained)
}

fn show(context: &Context, explained: &Explained) -> Result<(), Failure> {
    context.show(explained, |explained| text(explained, context.now(), context.width))
}

fn text(explained: &Explained, now: Timestamp, width: Option<usize>) -> String {
    let Explained { message, at, author, explanation, tokens, domains, line, notes } = explained;
    let mut text = format!("message  {}\n", printable(message));
    if *at != now {
        text += &format!("judged   {}\n", moment_and_relative(*at, now));
    }
    if let Some(author) = author {
        text += &format!("author   {author}\n");
    }
    text += &format!("level    {}\n", explanation.level);
    text += &format!("score    {:.2}  ({})\n", explanation.score, distances(explanation));
    if let Some(chance) = explanation.chance {
        text += &format!("chance   {} spam, where half of all mail is\n", chance_text(chance));
    }
    if let Some(tokens) = tokens {
        text += &format!("words    log-odds {tokens:+.2}\n");
    }
    text += &reasons_text(&explanation.reasons, width);
    if !explanation.cuts.is_empty() || !explanation.turns.is_empty() {
        text.push('\n');
    }
    for Cut { family, cap, points } in &explanation.cuts {
        let cap = cap.map_or_else(String::new, |cap| format!(" of {cap:.1}"));
        text += &format!("the cap{cap} on {family} took {points:.2} points away\n");
    }
    for turn in &explanation.turns {
        text += &format!("{turn}\n");
    }
    domains.iter().for_each(|domain| text += &domain_text(domain));
    if let Some(line) = line {
        text += &format!("\nmail log: {}\n", printable(line));
    }
    notes.iter().for_each(|note| text += &format!("note: {note}\n"));
    text
}

/// `12.5 %`; never certainty, which nobody measured.
fn chance_text(chance: f32) -> String {
    match 100.0 * chance {
        percent if percent > 99.9 => "above 99.9 %".to_owned(),
        percent if percent < 0.1 => "below 0.1 %".to_owned(),
        percent => format!("{percent:.1} %"),
    }
}

/// `low from 4.0, med from 6.5, high from 10.0; 1.20 more is med, 1.31 fewer is none`
fn distances(explanation: &Explanation) -> String {
    let Thresholds { low, med, high } = explanation.levels;
    let word = |distance: &Option<Distance>, how: &str| {
        distance.map(|Distance { level, points }| format!("{points:.2} {how} is {level}"))
    };
    let both: Vec<String> = [word(&explanation.up, "more"), word(&explanation.down, "fewer")].into_iter().flatten().collect();
    let between = if both.is_empty() { "" } else { "; " };
    format!("low from {low:.1}, med from {med:.1}, high from {high:.1}{between}{}", both.join(", "))
}

fn reasons_text(reasons: &[Reason], width: Option<usize>) -> String {
    if reasons.is_empty() {
        return "\nNo rule matched.\n".to_owned();
    }
    let mut grid = Grid::new(&["POINTS", "RULE", "WHERE", "WHY", "EVIDENCE"], &["WHERE", "WHY", "EVIDENCE"]);
    for reason in reasons {
        let points = match (reason.shadow, reason.uncut != reason.points) {
            (true, _) => "shadow".to_owned(),
            (false, true) => format!("{:+.2} (cut from {:+.2})", reason.points, reason.uncut),
            (false, false) => format!("{:+.2}", reason.points),
        };
        let rule = match &reason.local {
            Some(file) => format!("{} ({file})", reason.rule),
            None => reason.rule.clone(),
        };
        grid.row([&points, &rule, &reason.place, &reason.why, &reason.evidence]);
    }
    format!("\n{}", grid.render(width, 0))
}

fn domain_text(explained: &DomainExplained) -> String {
    let DomainExplained { domain, score, level, chance, own, decision, why, setting, turns } = explained;
    let chance = chance.map_or_else(String::new, |chance| format!(", chance of spam {}", chance_text(chance)));
    let why = if why.is_empty() { String::new() } else { format!(": {}", printable(why)) };
    let mut text = format!(
        "\n{domain}  level {level}, score {score:.2}{chance}\n  decided  {decision}{why}\n  setting  {}\n",
        printable(setting)
    );
    for hit in own {
        text += &format!("  its own  {:+.2} {} {}\n", hit.points, hit.rule, printable(&hit.evidence));
    }
    turns.iter().for_each(|turn| text += &format!("  {turn}\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::SpamLevel;

    #[test]
    fn a_judgement_explains_itself() {
        let reason = Reason {
            rule: "GTUBE".to_owned(),
            points: 4.2,
            uncut: 5.0,
            family: "test".to_owned(),
            place: "body".to_owned(),
            why: "a test".to_owned(),
            evidence: "XJS*\u{1b}".to_owned(),
            shadow: false,
            local: None,
        };
        let explained = Explained {
            message: "x.eml".to_owned(),
            at: Timestamp(1),
            author: None,
            explanation: Explanation {
                score: 4.2,
                level: SpamLevel::Low,
                levels: Thresholds { low: 4.0, med: 6.5, high: 10.0 },
                chance: Some(0.875),
                reasons: vec![reason],
                cuts: vec![Cut { family: "test".to_owned(), cap: Some(4.2), points: 0.8 }],
                up: Some(Distance { level: SpamLevel::Med, points: 2.3 }),
                down: Some(Distance { level: SpamLevel::None, points: 0.21 }),
                turns: vec!["without GTUBE it would be none".to_owned()],
            },
            tokens: None,
            domains: Vec::new(),
            line: None,
            notes: Vec::new(),
        };
        let expected = "\
message  x.eml
level    low
score    4.20  (low from 4.0, med from 6.5, high from 10.0; 2.30 more is med, 0.21 fewer is none)
chance   87.5 % spam, where half of all mail is

POINTS                  RULE   WHERE  WHY     EVIDENCE
+4.20 (cut from +5.00)  GTUBE  body   a test  XJS*\\u{1b}

the cap of 4.2 on test took 0.80 points away
without GTUBE it would be none
";
        assert_eq!(text(&explained, Timestamp(1), None), expected);
    }
}
