//! The house keeps its shape: imports go down the rows of docs/ARCHITECTURE.md, or further right in the same row.

use std::fs;
use std::path::{Path, PathBuf};

/// From top to bottom, each from left to right.
const ROWS: [&[&str]; 8] = [
    &["main"],
    &["daemon", "admin"],
    &["flow"],
    &["checks"],
    &["queue", "store", "scan", "net"],
    &["smtp", "config", "spam", "outside"],
    &["telemetry"],
    &["mail"],
];

/// Where a module stands: row and place in it. `sim` stands beside the house: it may import anything below `queue`.
fn place(module: &str) -> Option<(usize, usize)> {
    ROWS.iter().enumerate().find_map(|(row, modules)| modules.iter().position(|name| *name == module).map(|column| (row, column)))
}

/// Every source file with its room; tests stand apart, they may use `sim`.
fn sources() -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src can be listed").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") && !path.to_string_lossy().ends_with("tests.rs") {
                let first = path.strip_prefix(&root).expect("below src").components().next().expect("a name");
                let module = first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
                found.push((module, path));
            }
        }
    }
    found
}

/// The rooms a file names: in `use crate::x`, `crate::x::y` and, in main.rs, `feedgate::x`.
fn imports(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut found = Vec::new();
    for line in lines {
        let line = line.trim_start();
        let named = if line.starts_with("use feedgate::") { line.split("feedgate::") } else { line.split("crate::") };
        for part in named.skip(1) {
            let names = match part.strip_prefix('{') {
                Some(group) => group.split('}').next().unwrap_or_default().split(',').map(str::trim).collect(),
                None => vec![part],
            };
            for name in names {
                found.push(name.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect());
            }
        }
    }
    found
}

#[test]
fn imports_go_down_the_rows() {
    let mut wrong = Vec::new();
    for (module, path) in sources() {
        let text = fs::read_to_string(&path).expect("a source file can be read");
        for import in imports(&text).iter().filter(|import| **import != module) {
            let allowed = match (place(&module), place(import)) {
                _ if module == "lib" => true,
                (Some(from), Some(to)) => to.0 > from.0 || (to.0 == from.0 && to.1 > from.1),
                // The simulated outside may use the words and the seams, and nobody in the house may use it.
                (None, Some(to)) => module == "sim" && to.0 >= 5,
                (_, None) => {
                    place(&module).is_none() || (import != "sim" && !import.is_empty() && import.starts_with(char::is_uppercase))
                }
            };
            if !allowed {
                wrong.push(format!("{}: {module} may not import {import}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_room_has_a_row_and_says_what_it_is() {
    for (module, path) in sources() {
        let text = fs::read_to_string(&path).expect("a source file can be read");
        assert!(text.starts_with("//! "), "{} begins with what it is (//! …)", path.display());
        assert!(
            ["lib", "sim"].contains(&module.as_str()) || place(&module).is_some(),
            "{module} has no row in docs/ARCHITECTURE.md"
        );
    }
}

#[test]
fn the_architecture_page_shows_the_same_rows() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ARCHITECTURE.md")).expect("the page is there");
    for row in ROWS {
        let shown = page.lines().any(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            words.len() >= row.len() && words[..row.len()] == *row
        });
        assert!(shown, "docs/ARCHITECTURE.md shows the row {row:?}");
    }
}

/// docs/QUEUE.md says of each cell of the crash matrix which test proves it.
#[test]
fn the_crash_matrix_names_tests_that_exist() {
    let documentation = fs::read_to_string("docs/QUEUE.md").unwrap();
    let (_, matrix) = documentation.split_once("## What happens when").expect("the matrix");
    let rows = matrix.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| fault"));
    let cells: Vec<&str> = rows.map(|row| row.rsplit('|').nth(1).expect("a last column")).collect();
    let mut folders = vec![PathBuf::from("src"), PathBuf::from("tests/it")];
    let mut code = String::new();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            match path.is_dir() {
                true => folders.push(path),
                false => code += &fs::read_to_string(&path).unwrap(),
            }
        }
    }
    assert!(cells.len() > 20, "{cells:?}");
    for cell in cells {
        let names: Vec<_> = cell.split('`').skip(1).step_by(2).filter(|name| !name.ends_with(".rs")).collect();
        assert!(!names.is_empty(), "{cell}");
        for name in names.into_iter().filter(|name| !["crash", "kill", "power"].contains(name)) {
            assert!(code.contains(&format!("fn {name}(")), "there is no test {name}");
        }
    }
}
