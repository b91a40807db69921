//! pytest itself, split over shards by a plan that is right, wrong or of another day: each test runs in exactly one of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::adapters::{run_planned, shard};

const TESTS: &str = r#"
import pytest

def test_plain(): pass

@pytest.mark.parametrize("value", ["a b", "[x]", "x::y", "tab\there", "ünï", "", "a/b.py", "1-2"])
def test_named(value): pass

class TestHull:
    @pytest.mark.parametrize("depth", [1, 2])
    @pytest.mark.parametrize("sea", ["north sea"])
    def test_depth(self, sea, depth): pass

    class TestKeel:
        def test_inner(self): pass

@pytest.mark.skip
def test_skipped(): pass
"#;

/// Eighteen tests in two files of one directory.
fn write_tests(place: &Path) {
    fs::create_dir_all(place.join("tests/below.x")).unwrap();
    fs::write(place.join("tests/test_sea.py"), TESTS).unwrap();
    fs::write(
        place.join("tests/below.x/test_other.py"),
        "import pytest\n@pytest.mark.parametrize('n', range(5))\ndef test_n(n): pass\n",
    )
    .unwrap();
}

/// The cases that each of the shards ran, as the results say.
fn shards(total: u32, planned: Option<&str>) -> Vec<Vec<String>> {
    let one = |index| {
        let (plan, place) = shard("{pytest: [tests, -p, no:cacheprovider]}", index, total);
        write_tests(place.path());
        let tool = place.path().join("node_modules/.bin/pytest");
        fs::create_dir_all(tool.parent().unwrap()).unwrap();
        fs::write(&tool, "#!/bin/sh\nexec pytest-3 \"$@\"\n").unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(run_planned(&plan, place.path(), planned), Some(0));
        let results = fs::read(place.path().join("results/pytest.xml")).unwrap();
        let files = [("pytest.xml".to_owned(), results)];
        let results = regatta_verdict::results::read(&files, &Default::default());
        assert_eq!(results.problems, [""; 0]);
        let timed = results.durations.len();
        assert!(timed == results.names.len() || timed == 0);
        results.names
    };
    (0..total).map(one).collect()
}

fn need_pytest() {
    let found = Command::new("pytest-3")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    found.expect("pytest is missing: apt-get install python3-pytest");
}

/// All cases, each once.
fn whole(shards: &[Vec<String>]) -> Vec<String> {
    let mut all: Vec<String> = shards.concat();
    all.sort_unstable();
    all
}

#[test]
fn each_test_runs_in_exactly_one_shard_whatever_the_plan_says() {
    need_pytest();
    // Without a plan, by the hash of the ids.
    let all = whole(&shards(3, None));
    assert_eq!(all.len(), 18, "{all:?}");
    assert!(all.is_sorted_by(|one, next| one < next), "{all:?}");

    // A plan that names every test is followed to the letter.
    let planned: BTreeMap<&String, usize> =
        all.iter().zip([2, 0, 0, 1].into_iter().cycle()).collect();
    let text: Vec<String> = planned
        .iter()
        .map(|(name, shard)| format!("{name}\t{shard}\n"))
        .collect();
    let followed = shards(3, Some(&text.concat()));
    for (index, ran) in followed.iter().enumerate() {
        let meant = planned.iter().filter(|(_, shard)| **shard == index);
        let meant: Vec<String> = meant.map(|(name, _)| (*name).clone()).collect();
        assert_eq!(*ran, meant, "shard {index}");
    }

    // One of another day: a third of its tests renamed, some new, some gone, a shard that is none, and lines that are none.
    let stale: Vec<String> = all
        .iter()
        .zip([2, 0, 7].into_iter().cycle())
        .enumerate()
        .map(|(at, (name, shard))| match at % 3 {
            0 => format!("{name}\t{shard}\n"),
            1 => format!("{name} before\t{shard}\ntests.gone::test_{at}[a b]\t1\n"),
            _ => format!("{name}\t{shard}\nno line\n\t\n{name}\tx\n"),
        })
        .collect();
    let ran = shards(3, Some(&stale.concat()));
    assert_eq!(whole(&ran), all);
    for name in all.iter().step_by(3) {
        assert!(ran[2].contains(name), "what the plan still names: {name}");
    }
    // All in one: the others have nothing to do, and that is no failure.
    let one: Vec<String> = all.iter().map(|name| format!("{name}\t1\n")).collect();
    assert_eq!(shards(3, Some(&one.concat())), [vec![], all, vec![]]);
}
