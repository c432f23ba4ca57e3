//! `feedgate rules …`: the spam rules, and what they say about a message in a file. Needs no running gateway.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;

use super::spam::{explain, saved};
use super::{Context, Failure};
use crate::admin::output::Grid;
use crate::config::Config;
use crate::mail::SpamLevel;
use crate::spam::{Engine, Mode, RuleInfo};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// All rules with their points, and where these come from
    List {
        /// Only those that the local layer added or changed
        #[arg(long)]
        local: bool,
    },
    /// Judge a message in a file; the same as `spam explain FILE`
    Test {
        /// The message, as a mail client saves it (.eml); - reads standard input
        file: PathBuf,
        #[command(flatten)]
        door: saved::Door,
    },
}

pub fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::List { local } => {
            let rules = Rules::new(context, &engine(context)?, local);
            context.show(&rules, |rules| list_text(rules, context.width))
        }
        Command::Test { file, door } => explain::file(context, &file, door),
    }
}

/// What each rule means, as far as it can be found out: to explain a judgement.
pub fn reasons(context: &Context) -> HashMap<String, String> {
    let rules = engine(context).map(|engine| engine.rules()).unwrap_or_default();
    rules.into_iter().map(|rule| (rule.id, rule.why)).collect()
}

/// The configured rules with their local layer; those of the binary when there is no configuration.
pub fn engine(context: &Context) -> Result<Engine, Failure> {
    if !context.config.exists() {
        return Ok(Engine::builtin());
    }
    load(&Config::load(&context.config)?).map_err(Failure::Configuration)
}

/// The rules that the settings name, or all that is wrong with them.
pub fn load(config: &Config) -> Result<Engine, String> {
    Engine::configured(config.rules.as_deref(), config.rules_local.as_deref()).map_err(|errors| errors.to_string())
}

/// `rules list`
#[derive(Debug, Serialize)]
struct Rules {
    thresholds: Vec<Threshold>,
    caps: Vec<(String, f32)>,
    rules: Vec<RuleLine>,
}

#[derive(Debug, Serialize)]
struct RuleLine {
    #[serde(flatten)]
    rule: RuleInfo,
    /// `built in`, the file of a directory of one's own, or one of the local layer.
    from: String,
}

#[derive(Debug, Serialize)]
struct Threshold {
    level: SpamLevel,
    /// The lowest score of this level.
    from: f32,
}

impl Rules {
    fn new(context: &Context, engine: &Engine, local: bool) -> Rules {
        let config = context.config.exists().then(|| Config::load(&context.config).ok()).flatten();
        let directory = config.and_then(|config| config.rules);
        let from = |rule: &RuleInfo| match (&rule.local, &directory) {
            (Some(file), _) => file.clone(),
            (None, Some(directory)) => directory.join(format!("{}.toml", rule.family)).display().to_string(),
            (None, None) => "built in".to_owned(),
        };
        let line = |rule: RuleInfo| RuleLine { from: from(&rule), rule };
        Rules {
            thresholds: thresholds(engine),
            caps: engine.caps(),
            rules: engine.rules().into_iter().filter(|rule| !local || rule.local.is_some()).map(line).collect(),
        }
    }
}

fn thresholds(engine: &Engine) -> Vec<Threshold> {
    SpamLevel::ALL.into_iter().filter_map(|level| Some(Threshold { level, from: engine.threshold(level)? })).collect()
}

fn list_text(rules: &Rules, width: Option<usize>) -> String {
    let mut grid = Grid::new(&["RULE", "FAMILY", "POINTS", "FROM", "WHY"], &["WHY"]);
    for RuleLine { rule, from } in &rules.rules {
        grid.row([&rule.id, &rule.family, &points(rule), from, &rule.why]);
    }
    let levels = rules.thresholds.iter().map(|threshold| format!("{} from {:.1}", threshold.level, threshold.from));
    let levels = levels.collect::<Vec<_>>().join(", ");
    let caps = rules.caps.iter().map(|(family, cap)| format!("{family} {cap:.1}")).collect::<Vec<_>>().join(", ");
    let caps = if caps.is_empty() { caps } else { format!("; caps: {caps}") };
    format!("{}\n{} rules; levels: {levels}{caps}\n", grid.render(width, 0), rules.rules.len())
}

/// `+1.0 (was +2.0)`, `off`, `+2.0 shadow`
fn points(rule: &RuleInfo) -> String {
    let was = rule.shipped_points.filter(|was| *was != rule.points);
    let was = was.map_or_else(String::new, |was| format!(" (was {was:+.1})"));
    match rule.mode {
        Mode::On => format!("{:+.1}{was}", rule.points),
        Mode::Shadow => format!("{:+.1}{was} shadow", rule.points),
        Mode::Off => "off".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_where_points_come_from() {
        let rule = |mode, points, shipped_points| RuleInfo {
            id: "LINK_ALONE".to_owned(),
            family: "links".to_owned(),
            points,
            why: String::new(),
            mode,
            local: None,
            shipped_points,
        };
        assert_eq!(points(&rule(Mode::On, 1.0, None)), "+1.0");
        assert_eq!(points(&rule(Mode::On, 1.0, Some(2.0))), "+1.0 (was +2.0)");
        assert_eq!(points(&rule(Mode::On, 2.0, Some(2.0))), "+2.0");
        assert_eq!(points(&rule(Mode::Shadow, 2.0, None)), "+2.0 shadow");
        assert_eq!(points(&rule(Mode::Off, 2.0, None)), "off");
    }
}
