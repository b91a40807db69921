//! Good matrices: the schema takes them, printing and parsing give them back, and what they say arrives
//! in plans.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use regatta_model::Digest;
use regatta_model::container::Network;
use regatta_model::matrix::{Baseline, Matrix, PlanError, Rerun};
use regatta_model::plan::{AttemptPlan, Command, Keep};
use regatta_model::run::Pins;

use crate::fixtures;

fn good() -> Vec<(String, String)> {
    let files = fixtures("good", &["yaml", "json"]);
    assert!(files.len() >= 5);
    let read = |file: std::path::PathBuf| {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(file).unwrap())
    };
    files.into_iter().map(read).collect()
}

/// The text of one good matrix.
fn source(name: &str) -> String {
    good().into_iter().find(|(file, _)| file == name).unwrap().1
}

fn parse(source: &str) -> Matrix {
    Matrix::parse(source, "m.yaml").unwrap_or_else(|wrong| panic!("{wrong}"))
}

/// Pins for every image and file of a matrix.
fn pins(matrix: &Matrix) -> Pins {
    let pin = |texts: BTreeSet<String>| -> BTreeMap<String, Digest> {
        texts
            .into_iter()
            .map(|text| (text.clone(), Digest::of(text.as_bytes())))
            .collect()
    };
    Pins {
        images: pin(matrix.images(1000).unwrap()),
        files: pin(matrix.file_sources(1000).unwrap()),
        ..Pins::default()
    }
}

fn cell(matrix: &Matrix, values: &[(&str, &str)]) -> u64 {
    let values = values
        .iter()
        .map(|(axis, value)| ((*axis).to_owned(), (*value).to_owned()));
    matrix.cells().number(&values.collect()).unwrap()
}

fn plan(matrix: &Matrix, values: &[(&str, &str)]) -> AttemptPlan {
    matrix.plan(cell(matrix, values), &pins(matrix)).unwrap()
}

#[test]
fn the_schema_takes_every_good_matrix_as_it_was_written_and_as_it_is_printed() {
    let schema = jsonschema::validator_for(&Matrix::schema()).unwrap();
    for (name, source) in good() {
        let told = |value: &serde_json::Value| {
            schema
                .iter_errors(value)
                .map(|e| format!("{}: {e}", e.instance_path()))
                .collect::<Vec<_>>()
        };
        // What another YAML parser makes of it, as an editor would.
        let other: serde_json::Value = serde_saphyr::from_str(&source).unwrap();
        assert_eq!(told(&other), Vec::<String>::new(), "{name} as written");
        let matrix = Matrix::parse(&source, &name).unwrap_or_else(|wrong| panic!("{wrong}"));
        assert_eq!(
            told(&matrix.to_json()),
            Vec::<String>::new(),
            "{name} as printed"
        );
    }
}

#[test]
fn the_schema_refuses_what_the_parser_refuses_for_its_form() {
    let schema = jsonschema::validator_for(&Matrix::schema()).unwrap();
    let forms = [
        "unknown-key",
        "type-misfit",
        "empty-axis",
        "missing-keys",
        "not-supported-yet",
        "limits",
    ];
    for name in forms {
        let file = fixtures("wrong", &["yaml"])
            .into_iter()
            .find(|f| f.file_stem().unwrap() == name);
        let source = fs::read_to_string(file.unwrap()).unwrap();
        let value: serde_json::Value = serde_saphyr::from_str(&source).unwrap();
        assert!(!schema.is_valid(&value), "{name}");
    }
}

#[test]
fn printing_and_parsing_again_is_the_identity() {
    for (name, source) in good() {
        let matrix = Matrix::parse(&source, &name).unwrap_or_else(|wrong| panic!("{wrong}"));
        let printed = matrix.to_json();
        for text in [
            printed.to_string(),
            serde_json::to_string_pretty(&printed).unwrap(),
        ] {
            let again = Matrix::parse(&text, "other.json")
                .unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
            assert_eq!(matrix, again, "{name}");
            assert_eq!(again.to_json(), printed, "{name}");
            assert_eq!(again.name(), matrix.name(), "{name}");
            assert_eq!(again.cells().count(), matrix.cells().count(), "{name}");
            for cell in (0..matrix.cells().count()).take(100) {
                assert_eq!(again.cells().key(cell), matrix.cells().key(cell), "{name}");
                assert_eq!(
                    again.cells().baseline(cell),
                    matrix.cells().baseline(cell),
                    "{name}"
                );
                assert_eq!(
                    again.allow_failure(cell),
                    matrix.allow_failure(cell),
                    "{name}"
                );
                assert_eq!(
                    again.plan(cell, &pins(&again)),
                    matrix.plan(cell, &pins(&matrix)),
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn scalars_of_an_axis_keep_their_text() {
    let source = source("texts.yaml");
    let matrix = parse(&source);
    let expected = [
        "3.10",
        "1e3",
        "yes",
        "010",
        "0x1F",
        "3.9",
        "1.0",
        "true",
        ".5",
        "-1",
        "+1",
        "1_000",
        "2024-01-01",
        "null",
        "~",
        "~x",
        "12",
        "ü",
        "a b",
        "12:30:45",
    ];
    assert_eq!(matrix.axes()[0].values, expected);
    assert_eq!(matrix.axes()[1].values, ["block"]);
    let json = parse(
        r#"{"image": "x", "axes": {"v": [3.10, 1e3, 1.0, true, -0, "\u00fc\/\ud83d\udea3"]}, "test": {"run": "x"}}"#,
    );
    assert_eq!(
        json.axes()[0].values,
        ["3.10", "1e3", "1.0", "true", "-0", "ü/🚣"]
    );
}

#[test]
fn the_matrix_of_the_contract_has_its_cells_and_comparisons() {
    let source = source("contract.yaml");
    let matrix = parse(&source);
    let cells = matrix.cells();
    assert_eq!((matrix.name(), cells.count()), ("flask-on-werkzeug", 8));
    assert_eq!(
        cells.values(0).unwrap(),
        [("werkzeug", "2.2.3"), ("python", "3.9")]
    );
    assert_eq!(
        cells.values(1).unwrap(),
        [("werkzeug", "2.3.8"), ("python", "3.9")]
    );
    assert_eq!(
        cells.values(7).unwrap(),
        [("werkzeug", "3.1.3"), ("python", "3.13")]
    );
    assert_eq!(cells.values(8), None);
    assert_eq!(cells.key(2), r#"{"python":"3.10","werkzeug":"2.3.8"}"#);
    // The baseline 2.2.3 exists with Python 3.9 alone.
    let baselines: Vec<_> = (0..8).map(|cell| cells.baseline(cell)).collect();
    assert_eq!(
        baselines,
        [None, Some(0), None, Some(0), None, Some(0), None, None]
    );
    assert_eq!(
        matrix.compare().unwrap().baseline,
        Baseline::Value("2.2.3".into())
    );
    assert_eq!(
        (
            matrix.repeat(),
            matrix.parallel(),
            matrix.fail_fast(),
            matrix.priority()
        ),
        (1, Some(64), false, 0)
    );
    assert_eq!(matrix.labels()["arch"], "x86_64");
    assert_eq!(
        (0..8)
            .map(|cell| matrix.allow_failure(cell))
            .filter(|allowed| *allowed)
            .count(),
        1
    );

    let last = plan(&matrix, &[("werkzeug", "3.1.3"), ("python", "3.13")]);
    assert_eq!(last.test.timeout_ms, 1_200_000);
    assert_eq!(last.limits.memory_bytes, Some(1 << 30));
    assert_eq!(
        last.test.env,
        BTreeMap::from([("PIP_PRE".into(), "1".into()), ("TZ".into(), "UTC".into())])
    );
    let setup = last.setup.unwrap();
    assert_eq!(setup.env, BTreeMap::from([("PIP_PRE".into(), "1".into())]));
    assert_eq!(
        setup.run,
        Command::Shell("pip install werkzeug==3.1.3".into())
    );
    assert_eq!((setup.network, setup.timeout_ms), (Network::Host, 600_000));

    let first = plan(&matrix, &[("werkzeug", "2.2.3"), ("python", "3.9")]);
    assert_eq!(
        (first.test.timeout_ms, first.test.network),
        (600_000, Network::None)
    );
    assert_eq!(first.limits.memory_bytes, Some(512 << 20));
    assert_eq!(
        (first.limits.cpu_millis, first.limits.output_bytes),
        (Some(1000), 16 << 20)
    );
    assert_eq!(
        (first.test.user.as_deref(), first.test.workdir.as_deref()),
        (Some("tester"), Some("/src"))
    );
    assert_eq!(
        (first.image, first.files[0].blob),
        (Digest::of(b"./Containerfile"), Digest::of(b"./tests"))
    );
    assert_eq!(
        (first.results, first.artifacts),
        (
            vec!["junit.xml".into(), "*.tap".into()],
            vec!["*.log".to_owned()]
        )
    );
    assert!(first.volumes[0].writable && first.keep == Keep::Never);
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let matrix = Matrix::parse(
        "{image: i, axes: {a: [1]}, test: {run: [make, check]}}",
        "dir/My matrix.v2.yaml",
    )
    .unwrap();
    assert_eq!(matrix.name(), "My matrix");
    assert_eq!(
        (
            matrix.repeat(),
            matrix.parallel(),
            matrix.priority(),
            matrix.compare()
        ),
        (1, None, 0, None)
    );
    let rerun = Rerun {
        at_most: 10,
        in_all: None,
        error_rate: 0.01,
        deep: false,
    };
    assert_eq!(matrix.rerun(), rerun);
    assert_eq!((matrix.owner(), matrix.weight()), (None, 1));
    assert!(matrix.resources().is_none());
    let plan = plan(&matrix, &[("a", "1")]);
    assert_eq!(plan.setup, None);
    assert_eq!(
        plan.test.run,
        Command::Exec(vec!["make".into(), "check".into()])
    );
    assert_eq!(
        (plan.limits.memory_bytes, plan.limits.processes),
        (None, Some(4096))
    );
    assert_eq!(
        (plan.limits.disk_bytes, plan.limits.files),
        (Some(10 << 30), Some(65536))
    );
}

#[test]
fn shares_and_resources_are_what_was_written() {
    let matrix = parse(&source("everything.yaml"));
    assert_eq!(matrix.owner().unwrap().as_str(), "team-a_1.x");
    let asked = matrix.resources();
    assert_eq!(
        (matrix.weight(), asked.cpu_millis, asked.memory_bytes),
        (20, 2000, 4 << 30)
    );
}

#[test]
fn templates_are_filled_in_everywhere_they_work() {
    let source = source("everything.yaml");
    let matrix = parse(&source);
    assert_eq!(
        matrix.images(2).unwrap(),
        BTreeSet::from(["./images/debian".into(), "./images/ubuntu".into()])
    );
    assert!(
        matrix
            .images(1)
            .unwrap_err()
            .to_string()
            .contains("more than 1")
    );
    assert_eq!(matrix.file_sources(3).unwrap().len(), 3);
    let cell = plan(
        &matrix,
        &[
            ("distribution", "ubuntu"),
            ("python", "3.13"),
            ("database", "sqlite"),
        ],
    );
    assert_eq!(cell.image, Digest::of(b"./images/ubuntu"));
    assert_eq!(cell.files[1].to, "/data/sqlite");
    assert_eq!(cell.files[1].blob, Digest::of(b"./data/sqlite"));
    let Command::Exec(argv) = &cell.test.run else {
        panic!("{:?}", cell.test.run)
    };
    assert_eq!(argv[4], "sqlite");
    assert_eq!(cell.test.env["WHERE"], "on ubuntu with 3.13");
    assert_eq!(cell.test.env["OTHER"], "sqlite");
    assert_eq!(
        (
            cell.test.env["PIP_PRE"].as_str(),
            cell.test.env["DATABASE"].as_str()
        ),
        ("1", "sqlite")
    );
    assert_eq!(cell.setup.unwrap().env["PIP_NO_CACHE_DIR"], "true");
    let cell = plan(
        &matrix,
        &[
            ("distribution", "debian"),
            ("python", "3.12"),
            ("database", "postgres"),
        ],
    );
    assert_eq!(
        (cell.test.timeout_ms, cell.limits.cpu_millis),
        (5_400_000, Some(500))
    );
    assert_eq!(
        (cell.limits.memory_bytes, cell.limits.output_bytes),
        (Some(3 << 29), 1 << 20)
    );
    assert!(!cell.volumes[1].writable);
}

#[test]
fn a_plan_that_cannot_be_made_says_why() {
    let matrix = parse(
        "{image: i, axes: {a: [x, ../y]}, files: [{from: f, to: '/s/${{ matrix.a }}'}], test: {run: x}}",
    );
    let pins = pins(&matrix);
    assert!(matrix.plan(0, &pins).is_ok());
    assert!(matches!(
        matrix.plan(1, &pins),
        Err(PlanError::Unfit {
            key: "files.to",
            ..
        })
    ));
    assert_eq!(matrix.plan(2, &pins), Err(PlanError::NoSuchCell(2)));
    assert_eq!(
        matrix.plan(0, &Pins::default()),
        Err(PlanError::NoImage("i".into()))
    );
    let without = Pins {
        files: BTreeMap::new(),
        ..pins
    };
    assert_eq!(
        matrix.plan(0, &without),
        Err(PlanError::NoFiles("f".into()))
    );
}

#[test]
fn previous_is_the_nearest_earlier_cell() {
    let matrix = parse(
        "{image: i, axes: {v: {values: [1, 2, 3, 4], ordered: true}, p: [a, b]}, exclude: [{v: [2, 3], p: a}, {v: 1, p: b}],
          include: [{v: 5, p: a}], compare: {axis: v, baseline: previous}, test: {run: x}}",
    );
    let baseline = |v, p| {
        let before = matrix
            .cells()
            .baseline(cell(&matrix, &[("v", v), ("p", p)]))?;
        Some(matrix.cells().values(before).unwrap()[0].1)
    };
    assert_eq!(baseline("1", "a"), None);
    assert_eq!(baseline("4", "a"), Some("1"));
    assert_eq!(baseline("2", "b"), None);
    assert_eq!(baseline("3", "b"), Some("2"));
    assert_eq!(
        baseline("5", "a"),
        Some("4"),
        "values of included cells come last"
    );
}

#[test]
fn only_gives_the_same_matrix_over_fewer_values() {
    let source = source("contract.yaml");
    let matrix = parse(&source);
    let only = |values: &[(&str, &[&str])]| {
        let values: Vec<(String, Vec<String>)> = values
            .iter()
            .map(|(axis, values)| {
                (
                    (*axis).to_owned(),
                    values.iter().map(|v| (*v).to_owned()).collect(),
                )
            })
            .collect();
        matrix.only(&values)
    };
    let keys = |matrix: &Matrix| {
        (0..matrix.cells().count())
            .map(|c| matrix.cells().key(c))
            .collect::<Vec<_>>()
    };
    let fewer = only(&[("werkzeug", &["3.1.3", "2.2.3"])]).unwrap();
    assert_eq!(
        keys(&fewer),
        [
            r#"{"python":"3.9","werkzeug":"2.2.3"}"#,
            r#"{"python":"3.9","werkzeug":"3.1.3"}"#,
            r#"{"python":"3.10","werkzeug":"3.1.3"}"#,
            r#"{"python":"3.13","werkzeug":"3.1.3"}"#,
        ]
    );
    assert_eq!(fewer.cells().baseline(1), Some(0));
    assert!(fewer.allow_failure(3) && !fewer.allow_failure(2));
    // What is sent to a server is the printed matrix.
    let sent = parse(&fewer.to_json().to_string());
    assert_eq!((keys(&sent), sent == fewer), (keys(&fewer), true));
    // Only an included cell has this value.
    let extra = only(&[("python", &["3.13"])]).unwrap();
    assert_eq!(keys(&extra), [r#"{"python":"3.13","werkzeug":"3.1.3"}"#]);
    assert_eq!(
        extra.plan(0, &pins(&extra)).unwrap().test.timeout_ms,
        1_200_000
    );
    // Without its baseline nothing is compared.
    let without = only(&[("werkzeug", &["3.0.0"])]).unwrap();
    assert_eq!(
        (without.cells().count(), without.cells().baseline(0)),
        (2, None)
    );
    // The same axis twice means both.
    assert_eq!(
        only(&[("python", &["3.9"]), ("python", &["3.10"])])
            .unwrap()
            .cells()
            .count(),
        7
    );

    let wrong = |values: &[(&str, &[&str])]| only(values).unwrap_err().to_string();
    assert!(wrong(&[("pyton", &["3.9"])]).contains("did you mean `python`?"));
    assert!(wrong(&[("python", &["3.8"])]).contains("axis `python` has no value `3.8`"));
    assert!(wrong(&[("python", &["3.10"]), ("werkzeug", &["2.2.3"])]).contains("no cell is left"));
}

#[test]
fn schema_and_parser_agree_on_the_form_of_single_values() {
    let schema = jsonschema::validator_for(&Matrix::schema()).unwrap();
    let with = |path: &[&str], value: &serde_json::Value| {
        let mut matrix =
            serde_json::json!({"image": "i", "axes": {"a": ["1"]}, "test": {"run": "x"}});
        let mut place = &mut matrix;
        for key in path {
            place = &mut place[*key];
        }
        *place = value.clone();
        matrix
    };
    let values = serde_json::json!([
        null, true, 1, 0, -1, 1.5, "", "x", "1", "512MiB", "10m", "rw", "none", "never", [], ["1"], [null], {}, {"a": "1"},
    ]);
    let agree: &[&[&str]] = &[
        &["repeat"],
        &["metrics"],
        &["metrics", "surprise"],
        &["parallel"],
        &["priority"],
        &["weight"],
        &["resources", "memory"],
        &["resources", "surprise"],
        &["fail-fast"],
        &["keep"],
        &["services"],
        &["shards"],
        &["surprise"],
        &["limits", "memory"],
        &["limits", "processes"],
        &["limits", "surprise"],
        &["test", "timeout"],
        &["test", "network"],
        &["rerun", "at-most"],
        &["rerun", "error-rate"],
        &["rerun", "in-all"],
        &["setup"],
        &["labels", "x"],
        &["env", "X"],
        &["axes", "a"],
    ];
    for path in agree {
        for value in values.as_array().unwrap() {
            // A pattern cannot tell the range of a size.
            if (path.last(), value.as_str()) == (Some(&"memory"), Some("1")) {
                continue;
            }
            let matrix = with(path, value);
            let parsed = Matrix::parse(&matrix.to_string(), "m").map(|_| ());
            assert_eq!(
                schema.is_valid(&matrix),
                parsed.is_ok(),
                "{path:?} {value}: {parsed:?}"
            );
        }
    }
}
