//! A server in this process or in one of its own, a client, and an agent that is made by hand. May not: know what a
//! test is about.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use regatta_model::case::{CaseException, CaseStatus, Results};
use regatta_model::problem::Problem;
use regatta_model::report::Report;
use regatta_model::run::RunSummary;
use regatta_model::wire::{
    Assignment, EndedAttempt, Held, HeldState, HostFacts, LogPlace, PROTOCOL, SyncRequest,
    SyncResponse,
};
use regatta_model::{AttemptId, Blame, Digest, Incarnation, Outcome};
use regatta_server::{Handle, Listen, Options, Server};
use reqwest::{Client, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::json;

/// Longest wait for anything.
pub const BOUND: Duration = Duration::from_secs(30);

/// Waits until `what`, by asking again and again.
pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let end = Instant::now() + BOUND;
    while !condition().await {
        assert!(
            Instant::now() < end,
            "waited {BOUND:?} in vain until {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn http() -> Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::builder().no_proxy().build().unwrap()
}

/// A server's API.
#[derive(Clone)]
pub struct Api {
    pub base: String,
    pub http: Client,
}

impl Api {
    pub fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    pub async fn get(&self, path: &str) -> Response {
        self.http.get(self.url(path)).send().await.unwrap()
    }

    pub async fn json<T: DeserializeOwned>(&self, path: &str) -> T {
        let response = self.get(path).await;
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
    }

    pub async fn post(&self, path: &str) -> Response {
        self.http.post(self.url(path)).send().await.unwrap()
    }

    pub async fn submit_text(&self, matrix: &str) -> Response {
        let request = self
            .http
            .post(self.url("api/v1/runs"))
            .header("content-type", "application/yaml");
        request.body(matrix.to_owned()).send().await.unwrap()
    }

    pub async fn submit(&self, matrix: &str) -> RunSummary {
        let response = self.submit_text(matrix).await;
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert_eq!(status, StatusCode::CREATED, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    pub async fn run(&self, run: &RunSummary) -> RunSummary {
        self.json(&format!("api/v1/runs/{}", run.run)).await
    }

    pub async fn report(&self, run: &RunSummary) -> Report {
        self.json(&format!("api/v1/runs/{}/report", run.run)).await
    }

    /// The value of a metric's series, as `/metrics` writes it.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let page = self.get("metrics").await.text().await.unwrap();
        let line = page.lines().find_map(|line| {
            line.strip_prefix(series)?
                .strip_prefix(' ')
                .map(str::to_owned)
        });
        line.map(|value| value.parse().unwrap())
    }

    async fn put_blob(&self, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        let url = self.url(&format!("v2/regatta/mini/blobs/uploads/?digest={digest}"));
        let response = self.http.post(url).body(bytes).send().await.unwrap();
        assert_eq!(
            response.status(),
            StatusCode::CREATED,
            "{}",
            response.text().await.unwrap()
        );
        digest
    }

    /// Pushes an image of one empty layer under `mini:1`; gives its digest.
    pub async fn push_image(&self) -> Digest {
        let layer = self.put_blob(vec![0; 1024]).await;
        let config = json!({"architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer.to_string()]}});
        let config = config.to_string().into_bytes();
        let config_size = config.len();
        let config = self.put_blob(config).await;
        let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.to_string(),
                "size": config_size},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer.to_string(),
                "size": 1024}]});
        let manifest = manifest.to_string();
        let digest = Digest::of(manifest.as_bytes());
        let request = self.http.put(self.url("v2/regatta/mini/manifests/1"));
        let request = request.header("content-type", "application/vnd.oci.image.manifest.v1+json");
        let response = request.body(manifest).send().await.unwrap();
        assert_eq!(
            response.status(),
            StatusCode::CREATED,
            "{}",
            response.text().await.unwrap()
        );
        digest
    }
}

/// A server in this process.
pub struct Running {
    pub api: Api,
    pub handle: Handle,
}

pub async fn start(data: &Path, lease_ms: u64) -> Running {
    let mut options = Options::local(data, Listen::Tcp("127.0.0.1:0".parse().unwrap()));
    options.lease_ms = lease_ms;
    let handle = Server::start(options)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let api = Api {
        base: format!("http://{}", handle.address()),
        http: http(),
    };
    Running { api, handle }
}

/// A server with the image `mini:1`, and its directory.
pub async fn fresh(lease_ms: u64) -> (tempfile::TempDir, Running) {
    let data = tempfile::tempdir().unwrap();
    let running = start(data.path(), lease_ms).await;
    running.api.push_image().await;
    (data, running)
}

/// A server in a process of its own, which can be killed.
pub struct Process {
    pub api: Api,
    child: Child,
}

/// Tells a copy of this program to be a server on this directory.
const SERVE: &str = "REGATTA_TEST_SERVE";

impl Process {
    pub async fn start(data: &Path) -> Self {
        let address = data.join("address");
        drop(std::fs::remove_file(&address));
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_server_in_a_process_of_its_own", "--nocapture"])
            .env(SERVE, data)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut process = Self {
            api: Api {
                base: String::new(),
                http: http(),
            },
            child,
        };
        until("the server's process listens", || {
            if let Ok(base) = std::fs::read_to_string(&address) {
                process.api.base = base;
            }
            std::future::ready(!process.api.base.is_empty())
        })
        .await;
        process
    }

    /// As `kill -9` does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What the copy does; nothing where it was not told to.
pub async fn serve_if_told() {
    let Some(data) = std::env::var_os(SERVE).map(PathBuf::from) else {
        return;
    };
    let running = start(&data, 2000).await;
    let draft = data.join("address.new");
    std::fs::write(&draft, &running.api.base).unwrap();
    std::fs::rename(draft, data.join("address")).unwrap();
    std::future::pending::<()>().await;
}

/// An agent made by hand: it runs nothing, and says what the test wants.
pub struct Agent {
    pub api: Api,
    pub host: String,
    pub incarnation: u64,
    pub sequence: u64,
    pub slots: u32,
    pub memory_bytes: u64,
    pub held: BTreeMap<AttemptId, u64>,
}

impl Agent {
    pub fn new(api: &Api, host: &str, slots: u32) -> Self {
        Self {
            api: api.clone(),
            host: host.to_owned(),
            incarnation: 1,
            sequence: 0,
            slots,
            memory_bytes: 0,
            held: BTreeMap::new(),
        }
    }

    /// What it would say now.
    pub fn request(&mut self, ended: Vec<EndedAttempt>, wait_ms: u64) -> SyncRequest {
        self.sequence += 1;
        for end in &ended {
            self.held.remove(&end.attempt);
        }
        let held = |(attempt, generation): (&AttemptId, &u64)| Held {
            attempt: attempt.clone(),
            generation: *generation,
            state: HeldState::Running,
        };
        let busy = u32::try_from(self.held.len()).unwrap();
        SyncRequest {
            protocol: PROTOCOL,
            host: self.host.parse().unwrap(),
            incarnation: Incarnation(self.incarnation),
            sequence: self.sequence,
            facts: HostFacts {
                labels: BTreeMap::from([("arch".into(), "x86_64".into())]),
                memory_bytes: self.memory_bytes,
                ..HostFacts::default()
            },
            slots: self.slots,
            free: self.slots.saturating_sub(busy),
            holding: self.held.iter().map(held).collect(),
            ended,
            wait_ms,
            clock_ms: 0,
        }
    }

    pub async fn send(&self, request: &SyncRequest) -> Response {
        self.api
            .http
            .post(self.api.url("api/v1/agents/sync"))
            .json(request)
            .send()
            .await
            .unwrap()
    }

    /// Says that these ended, holds what it is given, and drops what it is told to.
    pub async fn sync(&mut self, ended: Vec<EndedAttempt>) -> SyncResponse {
        self.sync_for(ended, 0).await
    }

    pub async fn sync_for(&mut self, ended: Vec<EndedAttempt>, wait_ms: u64) -> SyncResponse {
        let request = self.request(ended, wait_ms);
        let response = self.send(&request).await;
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert_eq!(status, StatusCode::OK, "{text}");
        let response: SyncResponse = serde_json::from_str(&text).unwrap();
        for assignment in &response.start {
            self.held
                .insert(assignment.attempt.clone(), assignment.generation);
        }
        for stop in &response.stop {
            self.held.remove(&stop.attempt);
        }
        response
    }

    /// Syncs until something is given to it.
    pub async fn given(&mut self) -> Vec<Assignment> {
        let end = Instant::now() + BOUND;
        loop {
            let response = self.sync_for(Vec::new(), 200).await;
            if !response.start.is_empty() {
                return response.start;
            }
            assert!(Instant::now() < end, "{} was given nothing", self.host);
        }
    }

    /// The end of an attempt that it holds.
    pub fn end(&self, attempt: &AttemptId, exit_code: i32) -> EndedAttempt {
        EndedAttempt {
            attempt: attempt.clone(),
            generation: self.held.get(attempt).copied().unwrap_or_default(),
            incarnation: Incarnation(self.incarnation),
            outcome: Outcome::Exited { exit_code },
            blame: (exit_code != 0).then_some(Blame::Test),
            detail: String::new(),
            wall_ms: 12,
            queue_ms: 3,
            start_us: 900,
            cpu_us: 4000,
            peak_memory_bytes: 1 << 20,
            metrics: std::collections::BTreeMap::new(),
            identity: Some(Digest::of(attempt.to_string().as_bytes())),
            changed: Vec::new(),
            results: Results::default(),
            log: LogPlace::Empty,
            artifacts: Vec::new(),
            files: None,
        }
    }

    /// Runs everything that it is given until the run is over; `exit` says how each attempt ends.
    pub async fn finish(
        &mut self,
        run: &RunSummary,
        exit: impl Fn(&AttemptId) -> i32,
    ) -> RunSummary {
        let end = |agent: &Self, attempt: &AttemptId| agent.end(attempt, exit(attempt));
        finish(std::slice::from_mut(self), run, end).await
    }
}

/// Agents run everything that they are given until the run is over.
pub async fn finish(
    agents: &mut [Agent],
    run: &RunSummary,
    end: impl Fn(&Agent, &AttemptId) -> EndedAttempt,
) -> RunSummary {
    let bound = Instant::now() + BOUND;
    loop {
        for agent in agents.iter_mut() {
            let ended: Vec<EndedAttempt> = agent
                .held
                .keys()
                .map(|attempt| end(agent, attempt))
                .collect();
            let wait = if ended.is_empty() { 50 } else { 0 };
            agent.sync_for(ended, wait).await;
        }
        let now = agents[0].api.run(run).await;
        if now.state.is_over() {
            return now;
        }
        assert!(Instant::now() < bound, "the run is not over: {now:?}");
    }
}

/// Results of three cases; those named fail.
pub fn cases(failing: &[&str]) -> Results {
    let names = ["test_a", "test_b", "test_c"];
    let exceptions = names
        .iter()
        .enumerate()
        .filter(|(_, name)| failing.contains(name));
    Results {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        exceptions: exceptions
            .map(|(index, name)| CaseException {
                index: u32::try_from(index).unwrap(),
                status: CaseStatus::Failed,
                message: format!("{name}: assert 1 == 2"),
            })
            .collect(),
        found: true,
        problems: Vec::new(),
        durations: Vec::new(),
    }
}

/// A refusal, with its problem.
pub async fn problem(response: Response) -> Problem {
    let status = response.status();
    let kind = response
        .headers()
        .get("content-type")
        .map(|kind| kind.to_str().unwrap().to_owned());
    let text = response.text().await.unwrap();
    assert_eq!(
        kind.as_deref(),
        Some("application/problem+json"),
        "{status}: {text}"
    );
    let problem: Problem = serde_json::from_str(&text).unwrap();
    assert_eq!(problem.status, status.as_u16(), "{text}");
    assert!(
        !problem.detail.is_empty() && !problem.title.is_empty() && !problem.kind.is_empty(),
        "{text}"
    );
    problem
}

/// A matrix of so many cells that need `mini:1`.
pub fn matrix(cells: u64) -> String {
    let values: Vec<String> = (0..cells).map(|value| value.to_string()).collect();
    format!(
        "name: small\nimage: mini:1\naxes:\n  n: [{}]\ntest: {{run: 'true'}}\n",
        values.join(", ")
    )
}
