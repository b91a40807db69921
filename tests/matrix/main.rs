//! The matrix language from outside: every wrong matrix gets its error, every good one its cells, the
//! schema agrees with the parser, and no input panics. May not: look inside the model.

mod adapters;
mod cells;
mod commits;
mod good;
mod hostile;
mod pytest;
mod shards;
mod wrong;

use std::path::PathBuf;

/// The files of `tests/fixtures/matrices/FOLDER` with one of these endings, sorted.
fn fixtures(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/matrices")
        .join(folder);
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| {
        file.extension()
            .is_some_and(|e| endings.iter().any(|known| e == *known))
    });
    files.sort();
    files
}
