//! What a test leaves behind is taken within limits, and only where it is what it seems.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use base64::Engine as _;
use regatta_daemon::collect::{self, DEPTH_MOST, Packed};
use regatta_daemon::measure;
use regatta_model::case::Results;
use regatta_model::log::{self, Stream};
use regatta_model::wire::{INLINE_LOG_MOST, LogPlace};

fn names(root: &std::path::Path, globs: &[&str]) -> Vec<String> {
    let globs: Vec<String> = globs.iter().map(|glob| (*glob).to_owned()).collect();
    collect::find(root, &globs, 100, 1 << 20)
        .0
        .into_iter()
        .map(|left| left.name)
        .collect()
}

#[test]
fn only_regular_files_that_match_are_found() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    fs::create_dir_all(at("sub/deep")).unwrap();
    for name in ["a.xml", "b.tap", "c.log", "sub/d.xml", "sub/deep/e.log"] {
        fs::write(at(name), "x").unwrap();
    }
    symlink("/etc/passwd", at("link.xml")).unwrap();
    symlink("/etc", at("etc.xml")).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(at("pipe.xml"))
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(
        names(root.path(), &["*.xml", "*.tap"]),
        ["a.xml", "b.tap", "sub/d.xml"]
    );
    assert_eq!(names(root.path(), &["sub/**/*.log"]), ["sub/deep/e.log"]);
    assert_eq!(
        names(root.path(), &[]),
        ["a.xml", "b.tap", "c.log", "sub/d.xml", "sub/deep/e.log"]
    );
}

#[test]
fn a_file_that_is_exchanged_after_it_was_found_is_not_opened() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.xml");
    fs::write(&path, "honest").unwrap();
    let left = collect::find(root.path(), &[], 10, 100).0.remove(0);
    assert!(left.open().is_ok());
    fs::write(root.path().join("other"), "another file").unwrap();
    fs::rename(root.path().join("other"), &path).unwrap();
    assert!(left.open().is_err());
    fs::remove_file(&path).unwrap();
    symlink("/etc/shadow", &path).unwrap();
    assert!(left.open().is_err());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(left.open().is_err());
}

#[test]
fn limits_cut_and_say_so() {
    let root = tempfile::tempdir().unwrap();
    for number in 0..5 {
        fs::write(root.path().join(format!("{number}")), "12345").unwrap();
    }
    let (found, problems) = collect::find(root.path(), &[], 3, 100);
    assert_eq!(found.len(), 3);
    assert!(problems[0].contains("at most 3 files"), "{problems:?}");
    let (found, problems) = collect::find(root.path(), &[], 10, 12);
    assert_eq!(found.len(), 2);
    assert!(problems[0].contains("12 bytes"), "{problems:?}");
    let deep = root.path().join(vec!["d"; DEPTH_MOST + 5].join("/"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("x"), "").unwrap();
    assert_eq!(
        collect::find(root.path(), &[], 10, 100).0.len(),
        5,
        "not without end"
    );
}

#[test]
fn results_that_cannot_be_read_are_told() {
    let root = tempfile::tempdir().unwrap();
    assert!(
        !collect::results(root.path(), &[], &BTreeSet::new()).found,
        "nothing there"
    );
    fs::write(
        root.path().join("t.tap"),
        "TAP version 13\n1..2\nok 1 - a\nnot ok 2 - b\n",
    )
    .unwrap();
    let results = collect::results(root.path(), &[], &BTreeSet::new());
    assert_eq!(results.names.len(), 2);
    assert_eq!(results.failures().count(), 1);
    fs::write(root.path().join("j.xml"), "<testsuite><testcase name=").unwrap();
    assert!(
        !collect::results(root.path(), &[], &BTreeSet::new())
            .problems
            .is_empty()
    );
}

#[test]
fn json_that_is_no_results_is_a_problem_only_where_the_matrix_names_it() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("metrics.json"), "{\"seconds\": 3}\n").unwrap();
    assert_eq!(
        collect::results(root.path(), &[], &BTreeSet::new()),
        Results::default()
    );
    let named = collect::results(root.path(), &["*.json".to_owned()], &BTreeSet::new());
    assert!(named.found && named.problems.len() == 1, "{named:?}");
    let list = "# cases: 1\ncart adds\tpassed\n";
    fs::write(root.path().join("cart.tsv"), list).unwrap();
    let results = collect::results(root.path(), &[], &BTreeSet::new());
    assert_eq!(results.names, ["cart adds"]);
    assert_eq!(results.problems, [""; 0]);
}

#[test]
fn what_was_measured_is_read_beside_the_results_and_is_none_of_them() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    fs::create_dir_all(at("bench")).unwrap();
    fs::write(at("metrics.json"), "{\"requests\": 812.5, \"bad\": []}").unwrap();
    fs::write(at("bench/go.txt"), "BenchmarkSum-8 10 12.5 ns/op\n").unwrap();
    fs::write(at("notes.txt"), "BenchmarkSum is slow\n").unwrap();
    fs::write(at("t.tap"), "1..1\nok 1 - a\n").unwrap();
    symlink("/etc/passwd", at("link.prom")).unwrap();
    let measured = measure::read(root.path());
    let values: Vec<(&str, f64)> = measured
        .metrics
        .iter()
        .map(|(name, metric)| (name.as_str(), metric.value))
        .collect();
    assert_eq!(values, [("BenchmarkSum", 12.5), ("requests", 812.5)]);
    assert_eq!(measured.problems.len(), 1, "{measured:?}");
    let globs = ["*.json", "*.tap"].map(str::to_owned);
    let results = collect::results(root.path(), &globs, &measured.files);
    assert_eq!((results.names.len(), results.problems.len()), (1, 0));
}

#[test]
fn a_short_log_goes_along_and_a_long_one_apart_both_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (path, packed) = (
        directory.path().join("log"),
        directory.path().join("log.zst"),
    );
    assert_eq!(
        collect::pack_log(&path, &packed).unwrap(),
        Packed::Place(LogPlace::Empty)
    );
    let mut raw = Vec::new();
    log::encode(1, Stream::Out, b"hello\n", &mut raw);
    fs::write(&path, &raw).unwrap();
    let Packed::Place(LogPlace::Inline(text)) = collect::pack_log(&path, &packed).unwrap() else {
        panic!("a short log goes along");
    };
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap();
    assert_eq!(zstd::decode_all(bytes.as_slice()).unwrap(), raw);
    for lines in [20_000_u64, 500_000] {
        raw.clear();
        for number in 0..lines {
            let line = format!("{:x}\n", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            log::encode(number, Stream::Err, line.as_bytes(), &mut raw);
        }
        fs::write(&path, &raw).unwrap();
        let Packed::File(bytes) = collect::pack_log(&path, &packed).unwrap() else {
            panic!("a long log goes apart");
        };
        assert!(bytes > INLINE_LOG_MOST as u64);
        let written = fs::read(&packed).unwrap();
        assert_eq!(written.len() as u64, bytes);
        assert_eq!(zstd::decode_all(written.as_slice()).unwrap(), raw);
    }
}

#[test]
fn the_last_lines_are_the_last_lines() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut raw = Vec::new();
    for number in 1..=100 {
        log::encode(
            number,
            Stream::Out,
            format!("line {number} ä\n").as_bytes(),
            &mut raw,
        );
    }
    fs::write(&path, raw).unwrap();
    assert_eq!(collect::last_lines(&path, 2, 1000), "line 99 ä\nline 100 ä");
    assert_eq!(collect::last_lines(&path, 5, 5), "00 ä");
    assert_eq!(
        collect::last_lines(&directory.path().join("none"), 2, 1000),
        ""
    );
}
