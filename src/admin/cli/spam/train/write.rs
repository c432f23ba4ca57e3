//! Fitted values into the rule files: the lines that hold them are replaced, everything else stays as a person wrote it.

use std::path::Path;

use super::super::super::Failure;
use crate::spam::fit::Trained;

/// Writes the model, the levels and the points that changed. A crash in between leaves files of which each is whole.
pub fn back(directory: &Path, trained: &Trained) -> Result<(), Failure> {
    let failed = |path: &Path, error: std::io::Error| Failure::CouldNot(format!("{}: {error}", path.display()));
    let replace = |name: &str, bytes: &[u8]| {
        let (new, path) = (directory.join(format!("{name}.new")), directory.join(name));
        std::fs::write(&new, bytes).and_then(|()| std::fs::rename(&new, &path)).map_err(|error| failed(&path, error))
    };
    replace("tokens.model", &trained.model.write())?;
    let entries = std::fs::read_dir(directory).map_err(|error| failed(directory, error))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| name.ends_with(".toml")) else { continue };
        let before = std::fs::read_to_string(&path).map_err(|error| failed(&path, error))?;
        let after = if name == "levels.toml" { levels(&before, trained) } else { points(&before, trained) };
        if after != before {
            replace(name, after.as_bytes())?;
        }
    }
    Ok(())
}

/// The first `points = …` after each `id = "…"`.
fn points(text: &str, trained: &Trained) -> String {
    let mut rule = None;
    let line = |line: &str| {
        if let Some(id) = line.strip_prefix("id = \"").and_then(|rest| rest.strip_suffix('"')) {
            rule = trained.points.iter().find(|rule| rule.id == id);
        }
        match rule.filter(|rule| line.starts_with("points = ") && rule.is_fitted() && rule.points != rule.before) {
            Some(fitted) => format!("points = {:.1}\n", fitted.points),
            None => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

fn levels(text: &str, trained: &Trained) -> String {
    let cuts = trained.cuts;
    let values = [("low", cuts.low), ("med", cuts.med), ("high", cuts.high), ("even", cuts.even), ("steepness", cuts.steepness)];
    let line = |line: &str| {
        let value = values.iter().find(|(name, _)| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(" = ")));
        value.map_or_else(|| format!("{line}\n"), |(name, value)| format!("{name} = {value:.2}\n"))
    };
    text.lines().map(line).collect()
}
