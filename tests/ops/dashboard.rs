//! Every query of the dashboard, tried on a real Prometheus that scraped a real run.

use std::process::Command;
use std::time::Duration;

use regatta_tests::busybox;
use regatta_tests::command::{Data, Done, root};
use regatta_tests::process::{Host, Process, Server};
use regatta_tests::wait_until;
use serde_json::Value;

/// Every expression of the dashboard, with Grafana's interval filled in.
fn queries() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join("ops/prometheus/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let queries = panels.iter().flat_map(|panel| {
        let title = panel["title"].as_str().unwrap();
        panel["targets"]
            .as_array()
            .into_iter()
            .flatten()
            .map(move |target| {
                let expression = target["expr"]
                    .as_str()
                    .unwrap()
                    .replace("$__rate_interval", "1m");
                (title.to_owned(), expression)
            })
    });
    queries.collect()
}

/// A port that nobody uses at this moment.
struct Prometheus {
    url: String,
    _data: Data,
    _process: Process,
}

impl Prometheus {
    /// With the shipped configuration, but for the target and the pace.
    fn start(server: &Server) -> Self {
        let data = Data::new();
        let target = server.url.trim_start_matches("http://");
        let shipped =
            std::fs::read_to_string(root().join("ops/prometheus/prometheus.yml")).unwrap();
        let config = shipped
            .replace("127.0.0.1:7470", target)
            .replace("_interval: 15s", "_interval: 1s")
            .replace("_interval: 60s", "_interval: 1s");
        let file = data.file("prometheus.yml", &config);
        std::fs::copy(
            root().join("ops/prometheus/rules.yml"),
            file.with_file_name("rules.yml"),
        )
        .unwrap();
        let port = regatta_tests::process::free_port();
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                data.path().join("tsdb").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let process = Process::start(&mut command, &data.path().join("prometheus.log"));
        Self {
            url: format!("http://127.0.0.1:{port}"),
            _data: data,
            _process: process,
        }
    }

    fn ask(&self, path: &str, query: &str) -> Value {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--max-time",
            "10",
            "--get",
            "--data-urlencode",
            &format!("query={query}"),
        ]);
        let done = Done::of(curl.arg(format!("{}{path}", self.url)));
        serde_json::from_str(&done.out).unwrap_or_default()
    }

    /// Whether a query gives at least one number.
    fn has(&self, query: &str) -> bool {
        let answer = self.ask("/api/v1/query", query);
        let series = answer["data"]["result"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        series
            .iter()
            .any(|one| one["value"][1].as_str().is_some_and(|value| value != "NaN"))
    }
}

#[test]
fn every_query_of_the_dashboard_has_data_after_a_real_run() {
    regatta_tests::need_root();
    let server = Server::start(15);
    busybox::import(&server.data);
    let _host = Host::start(&server, "host", 2);
    let prometheus = Prometheus::start(&server);
    wait_until(
        "Prometheus scrapes the server",
        Duration::from_secs(60),
        || prometheus.has("up{job=\"regatta\"} == 1"),
    );

    // A version that breaks something, so that there are findings; several runs, so that rates move between scrapes.
    let matrix = "name: watched\nimage: busybox\n\
                  axes: {lib: {values: [1, 2], ordered: true}, n: [a, b, c, d]}\n\
                  compare: {axis: lib, baseline: previous}\n\
                  test: {run: 'test $REGATTA_AXIS_LIB = 1'}\n";
    let file = server.data.file("matrix.yaml", matrix);
    let submit = || {
        let arguments = [
            "submit",
            file.to_str().unwrap(),
            "--watch",
            "--quiet",
            "--server",
            &server.url,
        ];
        server.data.run(arguments).expect(1);
    };
    submit();
    let scraped = "regatta_findings_total{kind=\"regression\"}";
    wait_until("the first run is scraped", Duration::from_secs(60), || {
        prometheus.has(scraped)
    });
    submit();
    let mut missing = queries();
    assert!(missing.len() > 20, "{} queries", missing.len());
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while !missing.is_empty() && std::time::Instant::now() < end {
        missing.retain(|(_, query)| !prometheus.has(query));
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(
        missing.is_empty(),
        "no data: {missing:#?}\n{}",
        server.text("/metrics")
    );
    let rules = prometheus.ask("/api/v1/rules", "");
    assert_eq!(rules["status"], "success");
}
