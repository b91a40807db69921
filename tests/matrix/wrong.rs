//! Wrong matrices, each with its error as a golden file. `REGATTA_BLESS=1` writes them anew; read what
//! it wrote: would a user know what to do?

use std::fs;

use regatta_model::matrix::{Diagnostics, Matrix};

use crate::commits::look;
use crate::fixtures;

/// As the command reads it where its name says that repositories are at hand, else as a server does.
fn parse(source: &str, name: &str) -> Result<Matrix, Diagnostics> {
    if name.starts_with("looked-") {
        Matrix::parse_with(source, name, &mut look)
    } else {
        Matrix::parse(source, name)
    }
}

#[test]
fn every_wrong_matrix_gets_its_error() {
    let bless = std::env::var_os("REGATTA_BLESS").is_some();
    let mut differ = Vec::new();
    let files = fixtures("wrong", &["yaml", "json"]);
    assert!(files.len() >= 20, "only {} wrong matrices", files.len());
    for file in &files {
        let source = fs::read_to_string(file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        let told = match parse(&source, name) {
            Ok(matrix) => panic!("{name} is accepted, with {} cells", matrix.cells().count()),
            Err(wrong) => wrong.render(false),
        };
        let golden = file.with_extension("stderr");
        if bless {
            fs::write(&golden, &told).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != told {
            differ.push(format!("--- {name}\n{told}"));
        }
    }
    assert!(
        differ.is_empty(),
        "{}\nREGATTA_BLESS=1 accepts this",
        differ.join("\n")
    );
}

#[test]
fn every_golden_file_has_its_matrix() {
    for golden in fixtures("wrong", &["stderr"]) {
        let kept = ["yaml", "json"]
            .iter()
            .any(|ending| golden.with_extension(ending).exists());
        assert!(kept, "{} has no matrix", golden.display());
    }
}

#[test]
fn every_error_has_its_line_and_pointer() {
    for file in fixtures("wrong", &["yaml", "json"]) {
        let source = fs::read_to_string(&file).unwrap();
        let wrong = parse(&source, file.file_name().unwrap().to_str().unwrap()).unwrap_err();
        for diagnostic in &wrong {
            let line = usize::try_from(diagnostic.line).unwrap();
            assert!(
                (1..=source.lines().count()).contains(&line),
                "{}: {diagnostic:?}",
                file.display()
            );
            assert!(diagnostic.column >= 1, "{}: {diagnostic:?}", file.display());
        }
        assert_eq!(wrong.to_string(), wrong.render(false).trim_end());
        assert!(wrong.render(true).contains("\u{1b}[1;31m"));
    }
}

#[test]
fn a_pointer_leads_to_the_value_that_is_wrong() {
    let source = "image: x\naxes: {a/b: [1]}\ntest: {run: x, timeout: soon}\n";
    let wrong = Matrix::parse(source, "m").unwrap_err();
    assert_eq!(wrong.first().unwrap().pointer, "/test/timeout");
    let source = "image: x\naxes: {a: [1, 2, 1]}\ntest: {run: x}\n";
    assert_eq!(
        Matrix::parse(source, "m")
            .unwrap_err()
            .first()
            .unwrap()
            .pointer,
        "/axes/a/2"
    );
}

#[test]
fn a_matrix_above_the_size_limit_is_refused_with_its_limit() {
    let source = format!("image: x\n# {}\n", "x".repeat(1 << 20));
    let wrong = Matrix::parse(&source, "m").unwrap_err().to_string();
    assert!(wrong.contains("1048576"), "{wrong}");
}
