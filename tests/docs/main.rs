//! What the pages say, against the command and a server: links, commands and their flags, matrices, metrics, paths of the
//! API, names in reports; and that `-h` fits a screen. May not: judge a sentence; that is for readers.

mod command;
mod page;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use regatta_model::Outcome;
use regatta_tests::command::{Data, Done};
use regatta_tests::process::Server;
use regatta_tests::wait_until;
use serde_json::{Value, json};

use crate::command::Commands;
use crate::page::Page;

/// Lines and columns of a screen that `-h` fits.
const SCREEN: (usize, usize) = (42, 100);

#[test]
fn every_relative_link_leads_to_a_page_and_a_heading() {
    let mut wrong = Vec::new();
    for page in Page::all() {
        for link in page.links() {
            if let Err(why) = page.follow(&link) {
                wrong.push(format!("{}: ({link}): {why}", page.name));
            }
        }
    }
    assert_nothing(&wrong);
}

#[test]
fn every_page_is_reached_from_the_readme() {
    let pages = Page::all();
    let mut reached = BTreeSet::from(["README.md".to_owned()]);
    let mut waiting = vec!["README.md".to_owned()];
    while let Some(name) = waiting.pop() {
        let page = pages.iter().find(|page| page.name == name).unwrap();
        for link in page.links() {
            let Ok(Some(found)) = page.follow(&link) else {
                continue;
            };
            if pages.iter().any(|page| page.name == found) && reached.insert(found.clone()) {
                waiting.push(found);
            }
        }
    }
    let lost: Vec<&String> = pages.iter().map(|page| &page.name).collect();
    let lost: Vec<String> = lost
        .into_iter()
        .filter(|name| !reached.contains(*name))
        .map(|name| format!("no page that README.md leads to has a link to {name}"))
        .collect();
    assert_nothing(&lost);
}

#[test]
fn every_command_on_the_pages_exists_with_its_flags() {
    let mut commands = Commands::default();
    let mut seen = 0;
    let mut wrong = Vec::new();
    for page in Page::all() {
        for line in page.commands() {
            seen += 1;
            if let Err(why) = commands.check(&line) {
                wrong.push(format!("{}: {}: {why}", page.name, line.join(" ")));
            }
        }
    }
    assert!(
        seen > 50,
        "{seen} commands were found: the pages are not read"
    );
    assert_nothing(&wrong);
}

#[test]
fn every_matrix_on_the_pages_passes_check() {
    let data = Data::new();
    let mut seen = 0;
    let mut wrong = Vec::new();
    for page in Page::all() {
        for block in page.matrices() {
            seen += 1;
            let mut check = data.command(["check", "-"]);
            let mut child = check
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            child
                .stdin
                .take()
                .unwrap()
                .write_all(block.as_bytes())
                .unwrap();
            let output = child.wait_with_output().unwrap();
            if !output.status.success() {
                let error = String::from_utf8_lossy(&output.stderr);
                wrong.push(format!("{}:\n{error}", page.name));
            }
        }
    }
    assert!(
        seen >= 3,
        "{seen} matrices were found: the pages are not read"
    );
    assert_nothing(&wrong);
}

#[test]
fn the_short_help_of_every_command_fits_a_screen() {
    let mut wrong = Vec::new();
    let paths = Commands::default().all();
    assert!(
        paths.len() > 30,
        "{} commands were found: the help is not read",
        paths.len()
    );
    for path in paths {
        let text = Commands::help(&path, "-h");
        let lines = text.lines().count();
        let columns = text.lines().map(|line| line.chars().count()).max().unwrap();
        if lines > SCREEN.0 || columns > SCREEN.1 {
            let path = path.join(" ");
            wrong.push(format!(
                "regatta {path} -h: {lines} lines, {columns} columns"
            ));
        }
    }
    assert_nothing(&wrong);
}

#[test]
fn the_metrics_of_a_server_are_those_that_the_page_lists() {
    let server = Server::start(60);
    let page = Page::read("ops/docs/operating.md");
    let (of_hosts, of_server): (Vec<_>, Vec<_>) = page
        .rows("`regatta_")
        .into_iter()
        .partition(|row| row[0].starts_with("`regatta_host_") && row.len() == 2);

    sync_a_host(&server);
    let shown = series(&server.text("/metrics"));
    let listed: BTreeMap<String, Labels> = of_server
        .iter()
        .flat_map(|row| {
            let labels = listed_labels(&row[1]);
            page::quoted(&row[0])
                .into_iter()
                .map(move |name| (name, labels.clone()))
        })
        .collect();
    assert_eq!(
        shown.keys().collect::<Vec<_>>(),
        listed.keys().collect::<Vec<_>>(),
        "/metrics, and the table in operating.md"
    );
    for (name, labels) in &listed {
        let shown = &shown[name];
        assert_eq!(
            shown.keys().collect::<Vec<_>>(),
            labels.keys().collect::<Vec<_>>(),
            "the labels of {name}: shown, and listed"
        );
        for (label, values) in labels.iter().filter(|(_, values)| !values.is_empty()) {
            assert_eq!(&shown[label], values, "{name}: the values of {label}");
        }
    }

    let shown: BTreeSet<String> = series(&server.text("/metrics/hosts")).into_keys().collect();
    let listed: BTreeSet<String> = of_hosts
        .iter()
        .flat_map(|row| page::quoted(&row[0]))
        .collect();
    assert_eq!(shown, listed, "/metrics/hosts, and operating.md");
}

#[test]
fn the_paths_of_the_api_are_those_that_the_page_lists() {
    let server = Server::start(60);
    let openapi = server.get("/api/v1/openapi.json").unwrap();
    let paths = openapi["paths"].as_object().unwrap();
    let mut listed = BTreeSet::new();
    for row in Page::read("ops/docs/api.md").rows("`") {
        for text in page::quoted(&row[0]) {
            let Some((method, path)) = text.split_once(" /") else {
                continue;
            };
            let path = format!("/{path}");
            let methods = paths
                .get(&path)
                .unwrap_or_else(|| panic!("api.md has {path}, the server has not"));
            assert!(
                methods.get(method.to_lowercase()).is_some(),
                "api.md has {method} {path}, the server has not"
            );
            listed.insert(path);
        }
    }
    let served: BTreeSet<String> = paths.keys().cloned().collect();
    assert_eq!(served, listed, "the paths of the server, and of api.md");
}

#[test]
fn every_name_that_reports_use_is_explained() {
    let server = Server::start(60);
    let schema = server.get("/api/v1/report.schema.json").unwrap();
    let mut names: BTreeSet<String> = Outcome::NAMES.map(str::to_owned).into();
    for kind in ["Verdict", "Comparison", "FindingKind", "Conclusion"] {
        let found = constants(&schema["$defs"][kind]);
        assert!(!found.is_empty(), "the schema names no {kind}");
        names.extend(found);
    }
    let page = Page::read("ops/docs/reports.md");
    let explained: BTreeSet<String> = page.rows("").iter().flatten().fold(
        BTreeSet::new(),
        |mut explained: BTreeSet<String>, cell| {
            explained.extend(page::quoted(cell));
            explained
        },
    );
    let missing: Vec<String> = names
        .difference(&explained)
        .map(|name| format!("reports.md does not explain {name}"))
        .collect();
    assert_nothing(&missing);
}

fn assert_nothing(wrong: &[String]) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Labels, each with its values; no values: any.
type Labels = BTreeMap<String, BTreeSet<String>>;

/// Labels as the table has them: "`state`: free, held", or "`health`, `policy`".
fn listed_labels(cell: &str) -> Labels {
    let values: BTreeSet<String> = cell
        .split_once(": ")
        .map(|(_, values)| values.split(", ").map(str::to_owned).collect())
        .unwrap_or_default();
    page::quoted(cell)
        .into_iter()
        .map(|label| (label, values.clone()))
        .collect()
}

/// The metrics of a page in Prometheus' format, with the labels and values of their series but for a histogram's `le`.
fn series(text: &str) -> BTreeMap<String, Labels> {
    let mut metrics: BTreeMap<String, Labels> = BTreeMap::new();
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let name = declared.split(' ').next().unwrap();
            metrics.entry(name.to_owned()).or_default();
            continue;
        }
        let Some((name, labels)) = line.split_once('{').filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let name = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| {
                name.strip_suffix(suffix)
                    .filter(|name| metrics.contains_key(*name))
            })
            .unwrap_or(name);
        let known = metrics.get_mut(name).expect("declared before its series");
        let labels = labels.split_once('}').unwrap().0;
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (label, value) = label.split_once('=').unwrap();
            if label != "le" {
                let values = known.entry(label.to_owned()).or_default();
                values.insert(value.trim_matches('"').to_owned());
            }
        }
    }
    metrics
}

/// Every string that a schema names as `const` or in an `enum`.
fn constants(schema: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                match (key.as_str(), value) {
                    ("const", Value::String(name)) => drop(found.insert(name.clone())),
                    ("enum", Value::Array(names)) => {
                        found.extend(names.iter().filter_map(Value::as_str).map(str::to_owned));
                    }
                    _ => found.extend(constants(value)),
                }
            }
        }
        Value::Array(list) => found.extend(list.iter().flat_map(constants)),
        _ => {}
    }
    found
}

/// Says to the server that a host is there, as its agent does.
fn sync_a_host(server: &Server) {
    let sync = json!({
        "protocol": 1, "host": "boat-1", "incarnation": 1, "sequence": 1, "slots": 2, "free": 2, "clock_ms": 1_700_000_000_000_u64,
        "holding": [], "ended": [],
        "facts": {
            "kernel": "", "cpu": "", "cpus": 2, "memory_bytes": 1, "version": "", "labels": {}, "disk_free_bytes": 1,
            "observed": {"nodes_free": 1, "pressure": {"cpu": 1, "memory": 0, "io": 0}, "lacks": []}
        }
    });
    let mut curl = std::process::Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail-with-body"])
        .args([
            "--header",
            "Content-Type: application/json",
            "--data",
            &sync.to_string(),
        ])
        .arg(format!("{}/api/v1/agents/sync", server.url));
    Done::of(&mut curl).expect(0);
    wait_until("the host is known", Duration::from_secs(20), || {
        server
            .get("/api/v1/hosts")
            .is_some_and(|hosts| hosts[0]["name"] == "boat-1")
    });
}
