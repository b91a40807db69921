//! The rules: who may use whom, one home for each outside library, how files open, how long they are, equal
//! migrations. Each fault names the place and the way out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

/// Which crates of the workspace each crate may use. Arrows point down only.
const ARROWS: &[(&str, &[&str])] = &[
    ("regatta-model", &[]),
    ("regatta-scheduler", &["regatta-model"]),
    ("regatta-verdict", &["regatta-model"]),
    ("regatta-executor", &["regatta-model"]),
    ("regatta-image", &["regatta-model"]),
    ("regatta-store", &["regatta-model"]),
    (
        "regatta-server",
        &[
            "regatta-image",
            "regatta-model",
            "regatta-scheduler",
            "regatta-store",
            "regatta-verdict",
        ],
    ),
    (
        "regatta-daemon",
        &[
            "regatta-executor",
            "regatta-image",
            "regatta-model",
            "regatta-verdict",
        ],
    ),
    (
        "regatta-cli",
        &[
            "regatta-daemon",
            "regatta-executor",
            "regatta-image",
            "regatta-model",
            "regatta-server",
            "regatta-store",
            "regatta-verdict",
        ],
    ),
];

/// Where each outside library lives.
const HOMES: &[(&str, &[&str])] = &[
    ("axum", &["regatta-server"]),
    ("hyper", &["regatta-server"]),
    ("hyper-util", &["regatta-server"]),
    ("utoipa", &["regatta-server"]),
    ("tower-http", &["regatta-server"]),
    ("prometheus-client", &["regatta-server"]),
    ("sqlx", &["regatta-store"]),
    ("object_store", &["regatta-store"]),
    ("nix", &["regatta-executor"]),
    ("libc", &["regatta-executor"]),
    ("clap", &["regatta-cli"]),
    ("indicatif", &["regatta-cli"]),
    ("anstream", &["regatta-cli"]),
    ("anyhow", &["regatta-cli"]),
    (
        "reqwest",
        // In the server: a follower passes requests on to the leader. In the store: what object_store speaks with.
        &[
            "regatta-cli",
            "regatta-daemon",
            "regatta-image",
            "regatta-server",
            "regatta-store",
        ],
    ),
    ("quick-xml", &["regatta-verdict"]),
    ("tar", &["regatta-image"]),
    ("flate2", &["regatta-image"]),
    ("liblzma", &["regatta-image"]),
    ("oci-spec", &["regatta-image"]),
    ("granit-parser", &["regatta-model"]),
];

/// Packages that are no part of the product.
const AROUND: &[&str] = &["regatta-sim", "regatta-tests", "xtask"];

/// A file with more lines than this, tests not counted, is two files.
const LINES_MOST: usize = 400;

pub fn tidy() -> Result<Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .context("no workspace above xtask")?;
    let mut faults = Vec::new();
    arrows(root, &mut faults)?;
    for file in tracked(root, &["*.rs"])? {
        let text = std::fs::read_to_string(root.join(&file))
            .with_context(|| file.display().to_string())?;
        source(&file, &text, &mut faults);
    }
    migrations(root, &mut faults)?;
    Ok(faults)
}

/// Files that git knows or would add: what a commit can hold.
fn tracked(root: &Path, patterns: &[&str]) -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
            "--",
        ])
        .args(patterns)
        .current_dir(root)
        .output()
        .context("git ls-files")?;
    let names = String::from_utf8(output.stdout)?;
    let files = names
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(PathBuf::from);
    Ok(files.filter(|file| root.join(file).exists()).collect())
}

fn arrows(root: &Path, faults: &mut Vec<String>) -> Result<()> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--no-deps", "--format-version", "1", "--locked"])
        .current_dir(root)
        .output()
        .context("cargo metadata")?;
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("what cargo metadata says")?;
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let homes: BTreeMap<&str, &[&str]> = HOMES.iter().copied().collect();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        if AROUND.contains(&name) {
            continue;
        }
        let Some(may) = allowed.get(name) else {
            faults.push(format!(
                "{name}: a crate without arrows: add it to ARROWS in ops/xtask/src/tidy.rs"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            if !dependency["kind"].is_null() {
                continue;
            }
            let used = dependency["name"].as_str().unwrap_or_default();
            if used.starts_with("regatta-") && !may.contains(&used) {
                faults.push(format!("{name} uses {used}: arrows point down only (see ARROWS); move the code or the type"));
            }
            if let Some(home) = homes.get(used)
                && !home.contains(&name)
            {
                faults.push(format!(
                    "{name} uses {used}, whose home is {}: ask that crate instead",
                    home.join(", ")
                ));
            }
        }
    }
    Ok(())
}

fn source(file: &Path, text: &str, faults: &mut Vec<String>) {
    let place = file.display();
    if !text.starts_with("//!") {
        faults.push(format!("{place}:1: opens without `//!`: say in its first lines what it is for and what it may not do"));
    }
    let product = file.starts_with("services") || file.starts_with("agent");
    let root = file.ends_with("src/lib.rs") || file.ends_with("src/main.rs");
    if product && root {
        for phrase in ["May depend on:", "Architecture Invariant:"] {
            if !text.contains(phrase) {
                faults.push(format!("{place}:1: a crate's first comment has `{phrase}`"));
            }
        }
    }
    for (number, line) in text.lines().enumerate() {
        let code = line.trim_start();
        if code.starts_with("#[allow(") || code.starts_with("#![allow(") {
            faults.push(format!(
                "{place}:{}: `allow` hides what it was for: use `expect` with a reason",
                number + 1
            ));
        }
    }
    if product && file.components().all(|part| part.as_os_str() != "tests") {
        let lines = text
            .find("\n#[cfg(test)]")
            .map_or(text, |end| &text[..end])
            .lines()
            .count();
        if lines > LINES_MOST {
            faults.push(format!(
                "{place}: {lines} lines without tests, above {LINES_MOST}: it is two files"
            ));
        }
    }
}

fn migrations(root: &Path, faults: &mut Vec<String>) -> Result<()> {
    let mut names = Vec::new();
    for database in ["sqlite", "postgres"] {
        let directory = root.join("migrations").join(database);
        let entries =
            std::fs::read_dir(&directory).with_context(|| directory.display().to_string())?;
        let mut files: Vec<String> = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        files.sort();
        names.push(files);
    }
    if names[0] != names[1] {
        faults.push(format!(
            "migrations: sqlite has {:?}, postgres has {:?}: every migration has the same name in both",
            names[0], names[1]
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(file: &str, text: &str) -> Vec<String> {
        let mut faults = Vec::new();
        source(Path::new(file), text, &mut faults);
        faults
    }

    #[test]
    fn a_file_says_what_it_is_for() {
        assert!(faults("services/a/src/b.rs", "//! B.\n").is_empty());
        assert_eq!(faults("services/a/src/b.rs", "fn b() {}\n").len(), 1);
        assert_eq!(faults("services/a/src/lib.rs", "//! A.\n").len(), 2);
    }

    #[test]
    fn a_long_file_is_two_and_its_tests_do_not_count() {
        let code = format!("//! B.\n{}", "// x\n".repeat(LINES_MOST));
        assert_eq!(faults("services/a/src/b.rs", &code).len(), 1);
        let tests = format!("//! B.\n\n#[cfg(test)]\n{}", "// x\n".repeat(LINES_MOST));
        assert!(faults("services/a/src/b.rs", &tests).is_empty());
    }

    #[test]
    fn allow_is_refused() {
        assert_eq!(
            faults("tests/a/main.rs", "//! A.\n    #[allow(dead_code)]\n").len(),
            1
        );
    }
}
