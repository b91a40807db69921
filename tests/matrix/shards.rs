//! nextest and CTest themselves, and a stand-in of Jest, split over shards by a plan that is right, wrong or of another day: each
//! test runs in exactly one of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::adapters::{run_planned, shard};

/// One tool with tests of its own, which are the same in all shards.
struct Tool {
    /// Its key, and its program.
    key: &'static str,
    program: &'static str,
    /// What stands in its place.
    text: String,
    results: &'static str,
    /// Tests that a file says by themselves, where its results cannot.
    ran: bool,
}

/// What one shard came to.
#[derive(Debug, PartialEq)]
struct Ran {
    code: Option<i32>,
    tests: Vec<String>,
}

impl Tool {
    fn shards(&self, arguments: &[&str], total: u32, planned: Option<&str>) -> Vec<Ran> {
        let one = |index| {
            let arguments = serde_json::json!({ self.key: arguments });
            let (plan, place) = shard(&arguments.to_string(), index, total);
            let program = place.path().join("node_modules/.bin").join(self.program);
            write(&program, &self.text);
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            let code = run_planned(&plan, place.path(), planned);
            let below = place.path().join("results");
            let mut tests = if self.ran {
                let ran = fs::read_to_string(below.join("ran")).unwrap_or_default();
                ran.lines().map(str::to_owned).collect()
            } else {
                let read = |name: &str| fs::read(below.join(name)).ok();
                let files = read(self.results).map(|file| [(self.results.to_owned(), file)]);
                let files = files.iter().flatten().cloned().collect::<Vec<_>>();
                let results = regatta_verdict::results::read(&files, &Default::default());
                assert_eq!(results.problems, [""; 0]);
                results.names
            };
            tests.sort_unstable();
            Ran { code, tests }
        };
        (0..total).map(one).collect()
    }

    /// All tests, each of which ran once, in shards that passed.
    fn whole(&self, arguments: &[&str], total: u32, planned: Option<&str>) -> Vec<String> {
        let shards = self.shards(arguments, total, planned);
        let passed = shards.iter().all(|shard| shard.code == Some(0));
        assert!(passed, "{arguments:?}: {shards:?}");
        let mut all: Vec<String> = shards.into_iter().flat_map(|shard| shard.tests).collect();
        all.sort_unstable();
        let once = all.is_sorted_by(|one, next| one < next);
        assert!(once, "{arguments:?}: some run twice: {all:?}");
        all
    }

    /// Whether each test runs once, with plans of all kinds; `unit`: what a plan names for a test, where it can name it.
    fn keeps_to_plans(&self, arguments: &[&str], unit: impl Fn(&str) -> Option<String>) {
        let all = self.whole(arguments, 3, None);
        assert!(all.len() > 7, "{all:?}");
        let units: Vec<String> = all.iter().filter_map(|test| unit(test)).collect();
        let planned: BTreeMap<&String, usize> =
            units.iter().zip([2, 0, 0, 1].into_iter().cycle()).collect();
        let plan = |of: &BTreeMap<&String, usize>| {
            let lines = of.iter().map(|(name, shard)| format!("{name}\t{shard}\n"));
            lines.collect::<String>()
        };
        for (index, ran) in self
            .shards(arguments, 3, Some(&plan(&planned)))
            .iter()
            .enumerate()
        {
            for test in &ran.tests {
                let meant = unit(test).and_then(|unit| planned.get(&unit).copied());
                assert_eq!(meant.unwrap_or(index), index, "{test}");
            }
        }
        assert_eq!(self.whole(arguments, 3, Some(&plan(&planned))), all);

        // Of another day: a third of its tests renamed, some new, some gone, a shard that is none, and lines that are none.
        let mut stale: Vec<String> = Vec::new();
        for (at, name) in units.iter().enumerate() {
            stale.push(match at % 3 {
                0 => format!("{name}\t1\n"),
                1 => format!("{name} before\t2\ngone::too::test_{at}[a b]\t1\n"),
                _ => format!("{name}\t3\n{name}\t18446744073709551616\nno line\n\t\n{name}\tx\n"),
            });
        }
        for stale in [&stale.concat(), "", "nothing\n", "gone::too\t0\n"] {
            assert_eq!(self.whole(arguments, 3, Some(stale)), all, "{stale:?}");
        }
        assert_eq!(self.whole(arguments, 5, Some(&stale.concat())), all);
        // All in one: the others have nothing to do, and that is no failure.
        let one: BTreeMap<&String, usize> = units.iter().map(|name| (name, 1)).collect();
        let ran = self.shards(arguments, 2, Some(&plan(&one)));
        let alone = |test: &String| unit(test).is_some();
        assert!(!ran[0].tests.iter().any(alone), "{ran:?}");
        assert_eq!((ran[0].code, ran[1].code), (Some(0), Some(0)));
    }
}

fn write(file: &Path, text: &str) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
}

fn is_there(program: &str, arguments: &[&str]) -> bool {
    let mut asked = Command::new(program);
    asked.args(arguments).stdout(Stdio::null());
    let ended = asked.stderr(Stdio::null()).status();
    ended.is_ok_and(|status| status.success())
}

/// The program itself, behind the stand-ins.
fn itself(front: &str, program: &str) -> String {
    format!("#!/bin/sh\nPATH=${{PATH#*:}}\n{front}\nexec {program} \"$@\"\n")
}

/// A test binary that says what it ran, as `PACKAGE::BINARY$TEST`.
const BINARY: &str = r#"
const NAMES: &[&str] = &[LIST];
fn main() {
    use std::io::Write;
    let words: Vec<String> = std::env::args().skip(1).collect();
    let is = |word: &str| words.iter().any(|one| one == word);
    if is("--list") {
        for name in NAMES.iter().filter(|_| !is("--ignored")) {
            println!("{name}: test");
        }
        return;
    }
    let name = NAMES.iter().find(|name| is(name)).unwrap();
    let file = std::env::var("RAN").unwrap();
    let (package, binary) = (env!("CARGO_PKG_NAME"), env!("CARGO_CRATE_NAME"));
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
    file.write_all(format!("{package}::{binary}${name}\n").as_bytes()).unwrap();
    std::process::exit(i32::from(name.ends_with("fails")));
}
"#;

/// Two packages whose tests are called alike, one of them with a description that looks like a third's.
fn cargo(place: &Path) -> Tool {
    let package = |name: &str, more: &str| {
        let package =
            format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
        write(&place.join(name).join("Cargo.toml"), &(package + more));
    };
    let binary = |file: &str, names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        write(
            &place.join(file),
            &BINARY.replace("LIST", &names.join(", ")),
        );
    };
    write(
        &place.join("Cargo.toml"),
        "[workspace]\nmembers = [\"hull-x\", \"keel\"]\nresolver = \"2\"\n",
    );
    let target = |name: &str| format!("[[test]]\nname = \"{name}\"\nharness = false\n");
    let description = "description = '{\"name\":\"gone\",\"version\":\"1\",\"id\":\"1\"}'\n";
    let lib = "[lib]\nharness = false\n";
    package(
        "hull-x",
        &[description, lib, &target("b"), &target("odd")].concat(),
    );
    package("keel", &[lib, &target("many"), &target("red")].concat());
    let alike = ["same", "c::same", "b::same", "b::c::same", "täst"];
    binary("hull-x/src/lib.rs", &alike);
    binary("hull-x/tests/b.rs", &["same", "c::same", "keel::same"]);
    binary("keel/src/lib.rs", &["same", "keel::same", "c::same"]);
    let many: Vec<String> = (1..=20).map(|n| format!("case_{n:02}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    binary("keel/tests/many.rs", &many);
    binary("keel/tests/red.rs", &["fails"]);
    let odd = [
        "it's \"odd\"",
        "a b",
        "re.*(x)[1]$",
        "back\\slash/and/slash",
        "x) | all() | test(y",
        "dollar$end",
        "ünï",
        "t{1,2}",
        "^",
        "$(exit 1)`exit 1`",
    ];
    binary("hull-x/tests/odd.rs", &odd);
    // What runs this test may itself be nextest.
    let front = format!(
        "unset NEXTEST NEXTEST_PROFILE CARGO_TARGET_DIR\nRAN=$REGATTA_RESULTS/ran; export RAN\ncd '{}'",
        place.display()
    );
    Tool {
        key: "cargo-nextest",
        program: "cargo",
        text: itself(&front, "cargo"),
        results: "nextest.json",
        ran: true,
    }
}

/// What the results call a test: one name may be that of two.
fn nextest_name(ran: &str) -> String {
    let (binary, test) = ran.split_once('$').unwrap();
    let (package, target) = binary.split_once("::").unwrap();
    let library = package.replace('-', "_") == target;
    format!("{}::{test}", if library { package } else { binary })
}

#[test]
fn nextest_runs_each_test_in_one_shard_whatever_the_plan_says() {
    // `ops/test` runs all tests without it where it is missing, and says so.
    if std::env::var_os("REGATTA_WITHOUT_NEXTEST").is_some() {
        return;
    }
    assert!(
        is_there("cargo", &["nextest", "--version"]),
        "cargo-nextest is missing: cargo install --locked cargo-nextest"
    );
    let place = tempfile::tempdir().unwrap();
    let tool = cargo(place.path());
    let green = ["--no-fail-fast", "-E", "not binary(red)"];
    tool.keeps_to_plans(&green, |test| Some(nextest_name(test)));

    // What the results name is what the plan does; nextest's own events are broken by some odd names.
    let named = Tool {
        ran: false,
        ..cargo(place.path())
    };
    let sane = ["-E", "package(keel) & not binary(red)"];
    let all = named.whole(&sane, 2, None);
    let ran = tool.whole(&sane, 2, None);
    let mut ran: Vec<String> = ran.iter().map(|ran| nextest_name(ran)).collect();
    ran.sort_unstable();
    assert_eq!(ran, all);
    let by_name = |(at, name): (usize, &String)| format!("{name}\t{}\n", at % 2);
    let plan: String = all.iter().enumerate().map(by_name).collect();
    let split = named.shards(&sane, 2, Some(&plan));
    let meant = |shard: usize| all.iter().skip(shard).step_by(2).cloned().collect();
    let meant: [Vec<String>; 2] = [meant(0), meant(1)];
    assert_eq!([&split[0].tests, &split[1].tests], [&meant[0], &meant[1]]);
    // Its own filters, in whatever form, still choose.
    for filters in [
        &["same", "-E", "not binary(red)"][..],
        &["--", "same"],
        &["--no-fail-fast", "-Etest(same)"],
        &[
            "-E=test(c::same)",
            "--filterset",
            "test(=same) | test(/^b/)",
        ],
        &[
            "--filterset=test(c)",
            "-p",
            "keel",
            "--",
            "--skip",
            "case_1",
        ],
        &[
            "--filter-expr",
            "test(1)",
            "--manifest-path",
            "keel/Cargo.toml",
        ],
        &["-vEtest(same)"],
        &["-p", "hull-x", "-E", "test(nothing)"],
    ] {
        let chosen = tool.whole(filters, 3, None);
        assert_eq!(tool.whole(filters, 3, Some(&plan)), chosen, "{filters:?}");
    }
    // The one that fails fails its shard alone.
    let plan = plan + "keel::red::fails\t1\n";
    let codes = tool.shards(&["--no-fail-fast"], 2, Some(&plan));
    let codes: Vec<_> = codes.iter().map(|ran| ran.code).collect();
    assert_eq!(codes, [Some(0), Some(100)]);
    // Plans whose filters are no arguments: split as without one.
    let name = |at: u32| format!("keel::many::{at}_{}\t{}\n", "x".repeat(60), at % 2);
    let long = plan + &(0..20_000).map(name).collect::<String>();
    let without = tool.shards(&sane, 2, None);
    assert_eq!(tool.shards(&sane, 2, Some(&long)), without);
}

const CTEST_NAMES: [&str; 13] = [
    "a",
    "b c",
    "q\"uote",
    "back\\slash",
    "x, y",
    "re.*(x)[1]$",
    "zeta",
    "Test #4: a",
    "ünï",
    "a;b",
    "it's",
    "set up",
    "uses",
];

fn ctest(place: &Path) -> Tool {
    assert!(
        is_there("ctest", &["--version"]),
        "CTest is missing: apt-get install cmake"
    );
    // As CMake writes them; a test says with its status whether its file is there.
    let mut tests = String::new();
    for name in CTEST_NAMES {
        tests += &format!("add_test([==[{name}]==] \"test\" \"!\" \"-e\" [==[{name}.fails]==])\n");
    }
    tests += "set_tests_properties(zeta PROPERTIES LABELS few)\n";
    tests += "set_tests_properties([==[set up]==] PROPERTIES FIXTURES_SETUP sea)\n";
    tests += "set_tests_properties(uses PROPERTIES FIXTURES_REQUIRED sea)\n";
    write(&place.join("build/CTestTestfile.cmake"), &tests);
    Tool {
        key: "ctest",
        program: "ctest",
        text: itself(&format!("cd '{}'", place.display()), "ctest"),
        results: "ctest.xml",
        ran: false,
    }
}

#[test]
fn ctest_runs_each_test_in_one_shard_whatever_the_plan_says() {
    let place = tempfile::tempdir().unwrap();
    let tool = ctest(place.path());
    // Fixtures are set up wherever they are needed; here they are not.
    let alone = ["build", "-FA", "."];
    tool.keeps_to_plans(&alone, |test| Some(test.to_owned()));

    let by_name = |(at, name): (usize, &&str)| format!("{name}\t{}\n", at % 3);
    let plan: String = CTEST_NAMES.iter().enumerate().map(by_name).collect();
    for (filters, chosen) in [
        (&["-R", "^[a-z]$"][..], &["a"][..]),
        (&["-R", "a", "-E", "e"], &["a", "a;b", "back\\slash"]),
        (&["-L", "few"], &["zeta"]),
        (&["-I", "2,4"], &["b c", "back\\slash", "q\"uote"]),
        (&["-R", "^[q-z]", "-I", "2,3"], &["re.*(x)[1]$", "x, y"]),
        (&["-R", "nothing"], &[]),
        (
            &["-j", "3", "--schedule-random", "-V", "-R", "c"],
            &["b c", "back\\slash"],
        ),
    ] {
        let words = [&alone, filters].concat();
        let mut ran = tool.whole(&words, 3, Some(&plan));
        ran.sort_unstable();
        assert_eq!(ran, chosen, "{filters:?}");
    }
    // Where it does not say which tests there are, it splits by itself.
    let quiet = tool.whole(&[&alone[..], &["-Q"]].concat(), 3, Some(&plan));
    assert_eq!(quiet.len(), CTEST_NAMES.len());
    // What a test needs is with it, beyond what the plan gives there.
    let apart: String = ["uses\t0\n", "set up\t1\n"].concat();
    let ran = tool.shards(&["build", "-R", "^uses$|^set"], 2, Some(&apart));
    assert_eq!(ran[0].tests, ["set up", "uses"]);
    assert_eq!(ran[1].tests, ["set up"]);
    // One that fails fails its shard alone.
    fs::write(place.path().join("build/zeta.fails"), "").unwrap();
    let zeta = CTEST_NAMES.iter().position(|name| *name == "zeta").unwrap() % 3;
    for (index, ran) in tool.shards(&alone, 3, Some(&plan)).iter().enumerate() {
        let status = if index == zeta { Some(8) } else { Some(0) };
        assert_eq!(ran.code, status, "{ran:?}");
    }
    let lost = tool.shards(&["nowhere"], 2, Some(&plan));
    assert!(lost.iter().all(|ran| ran.code == Some(1)), "{lost:?}");
}

/// As Jest takes filters (`JEST` is its version), with files in place of tests: `src/*.test.js`. A file with `fails` in its name does.
const JEST: &str = r#"#!/usr/bin/env node
const fs = require('fs'), path = require('path');
const words = process.argv.slice(2), root = 'ROOT';
const value = (key) => (words.find((word) => word.startsWith(key + '=')) || '=').split('=')[1];
const filter = value('--filter');
if (words.includes('--showConfig')) {
  console.log(JSON.stringify({ configs: [], globalConfig: filter ? { filter } : {}, version: 'JEST' }, null, 2));
  process.exit(0);
}
let files = fs.readdirSync(path.join(root, 'src')).sort().map((name) => path.join(root, 'src', name));
const patterns = words.filter((word) => !word.startsWith('-'));
files = files.filter((file) => patterns.every((pattern) => file.includes(pattern)));
(async () => {
  if (filter) {
    const { filtered } = await require(filter)(files);
    const chosen = new Set(JEST < 30 ? filtered.map((one) => one.test) : filtered);
    files = files.filter((file) => chosen.has(file));
  }
  if (value('--shard')) {
    const [index, count] = value('--shard').split('/').map(Number);
    files = files.filter((_, at) => at % count === index - 1);
  }
  if (!files.length && !words.includes('--passWithNoTests')) process.exit(1);
  const testResults = files.map((name) => ({
    name, status: 'passed', assertionResults: [{ ancestorTitles: [], title: 'GET /', status: name.includes('fails') ? 'failed' : 'passed' }],
  }));
  fs.writeFileSync(value('--outputFile'), JSON.stringify({ numTotalTests: files.length, testResults }));
  process.exit(files.some((name) => name.includes('fails')) ? 1 : 0);
})();
"#;

fn jest(place: &Path, version: &str) -> Tool {
    assert!(
        is_there("node", &["--version"]),
        "node is missing: apt-get install nodejs"
    );
    for name in [
        "a",
        "b c",
        "q'uote",
        "q\"uote",
        "re(x)[1]$",
        "ünï",
        "c1",
        "c2",
        "c3",
        "$(exit 1)",
        "back\\s",
    ] {
        write(&place.join(format!("src/{name}.test.js")), "");
    }
    Tool {
        key: "jest",
        program: "jest",
        text: JEST
            .replace("JEST", version)
            .replace("ROOT", &place.display().to_string()),
        results: "jest.json",
        ran: false,
    }
}

#[test]
fn jest_runs_each_file_in_one_shard_whatever_the_plan_says() {
    let place = tempfile::tempdir().unwrap();
    let file = |test: &str| test.split_once("::").map(|(file, _)| file.to_owned());
    for version in ["29", "30"] {
        let tool = jest(place.path(), version);
        if version == "30" {
            tool.keeps_to_plans(&[], file);
        }
        let path = |name: &str| -> PathBuf { place.path().join(format!("src/{name}.test.js")) };
        let plan = ["a\t0", "c1\t1", "c2\t1", "c3\t1"].map(|line| {
            let (name, shard) = line.split_once('\t').unwrap();
            format!("{}\t{shard}\n", path(name).display())
        });
        let plan = plan.concat();
        let chosen = tool.whole(&["src/c"], 2, Some(&plan));
        assert_eq!(chosen.len(), 3);
        let ran = tool.shards(&["src/c"], 2, Some(&plan));
        assert_eq!((ran[0].tests.len(), ran[1].tests.len()), (0, 3));
        // A filter of its own is not taken away.
        let theirs = place.path().join("filter.js");
        write(
            &theirs,
            "module.exports = async (files) => { const c = files.filter((f) => f.includes('src/c')); return { filtered: c.concat(c.map((test) => ({ test }))) }; };",
        );
        let filter = format!("--filter={}", theirs.display());
        assert_eq!(tool.whole(&[&filter], 2, Some(&plan)), chosen);
        write(&path("fails"), "");
        let fails = format!("{plan}{}\t0\n", path("fails").display());
        let codes = tool.shards(&[], 2, Some(&fails));
        let codes: Vec<_> = codes.iter().map(|ran| ran.code).collect();
        assert_eq!(codes, [Some(1), Some(0)]);
        fs::remove_file(path("fails")).unwrap();
    }
}
