//! Large files go from hosts straight to the bucket, by URLs that are good for that alone; where that fails, through the
//! server. May not: stand in for the server, the agent or the store.

use std::sync::atomic::Ordering;
use std::time::Duration;

use regatta_model::AttemptId;
use regatta_model::upload::{UploadPlace, UploadRequest};
use regatta_store::{BlobKey, Signed};
use regatta_tests::process::{Host, Server, free_port};
use regatta_tests::{busybox, need_root, wait_until};
use reqwest::{Method, StatusCode};

use crate::kit::{Agent, Api, fresh, http, matrix, problem};
use crate::place::{attempt, get, put};
use crate::s3::S3;

/// Says a megabyte that nothing compresses to less than the half, and leaves it with its sum.
const WORDS: &str = r#"
name: words
image: busybox
axes: {n: [1]}
test:
  run: |
    cd $REGATTA_ARTIFACTS
    dd if=/dev/urandom bs=64k count=16 2>/dev/null | base64 | tee "the words.txt"
    sha256sum < "the words.txt" > sum
"#;
/// Bytes of `sum`.
const SUM: u64 = 68;
/// Files of that attempt that are large enough: its log and the words.
const LARGE: usize = 2;

fn server_on(s3: &S3, options: &[&str]) -> Server {
    let variables = s3.variables().into_iter();
    let variables = variables.map(|(name, value)| format!("{name}={value}"));
    let before: Vec<String> = ["env".to_owned()].into_iter().chain(variables).collect();
    let options = [&["--blobs", "s3://boats/fleet"], options].concat();
    Server::start_in(&before, "127.0.0.1:0", 15, &options)
}

fn uploaded(server: &Server, to: &str) -> u64 {
    let series = format!("regatta_upload_bytes_total{{to=\"{to}\"}} ");
    let page = server.text("/metrics");
    let value = page.lines().find_map(|line| line.strip_prefix(&series));
    value.unwrap_or_else(|| panic!("{page}")).parse().unwrap()
}

/// What a run of [`WORDS`] did.
struct Told {
    /// Bytes of both large files as they are stored.
    large: u64,
    /// Bytes that came to the server, and with which it sent a host to the bucket.
    to_server: u64,
    to_bucket: u64,
    host_log: String,
}

/// Runs [`WORDS`] on a host, and checks that the log and the artifact come back byte for byte.
fn words(s3: &S3, options: &[&str]) -> Told {
    need_root();
    let server = server_on(s3, options);
    busybox::import(&server.data);
    let host = Host::start(&server, "one", 1);
    let file = server.data.file("words.yaml", WORDS);
    let at = ["--server", server.url.as_str()];
    let client = |arguments: &[&str]| server.data.run([arguments, &at].concat()).expect(0).out;
    let run = client(&["submit", file.to_str().unwrap()]);
    let path = format!("/api/v1/runs/{}", run.trim());
    wait_until("the run is over", Duration::from_secs(120), || {
        server
            .get(&path)
            .is_some_and(|run| run["state"] == "finished")
    });
    let report = server.get(&format!("{path}/report")).unwrap();
    assert_eq!(report["conclusion"], "passed", "{report}");
    let out = server.data.path().join("out");
    let to = out.to_str().unwrap();
    client(&["artifacts", run.trim(), "0", "--output", to]);
    let words = std::fs::read_to_string(out.join("the words.txt")).unwrap();
    assert!(words.len() > 1 << 20, "{} bytes", words.len());
    let log = client(&["logs", run.trim(), "0"]);
    assert!(log == words, "{} other bytes in the log", log.len());
    let sum = std::process::Command::new("sha256sum")
        .arg(out.join("the words.txt"))
        .output()
        .unwrap();
    let told = std::fs::read_to_string(out.join("sum")).unwrap();
    assert_eq!(told.as_bytes()[..64], sum.stdout[..64]);
    let left = s3.left();
    assert_eq!(left.len(), 3, "{left:?}");
    for key in &left {
        assert!(key.starts_with("boats/fleet/runs/") && key.contains("/0/1/by/"));
    }
    Told {
        large: left.iter().map(|key| s3.bytes(key)).sum::<u64>() - SUM,
        to_server: uploaded(&server, "server"),
        to_bucket: uploaded(&server, "bucket"),
        host_log: host.log(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_pass_the_server_by() {
    let s3 = S3::start().await;
    let told = words(&s3, &[]);
    assert_eq!(s3.seen.signed.load(Ordering::Relaxed), LARGE);
    assert_eq!((told.to_server, told.to_bucket), (SUM, told.large));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_bucket_cannot_be_reached_they_go_through_the_server() {
    let s3 = S3::start().await;
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let told = words(&s3, &["--blobs-public-endpoint", &nowhere]);
    assert_eq!(s3.seen.signed.load(Ordering::Relaxed), 0);
    assert_eq!(told.to_server, SUM + told.large);
    let tries = told.host_log.matches("the bucket did not take").count();
    assert_eq!(tries, 1, "{}", told.host_log);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bucket_refuses_goes_through_the_server() {
    let s3 = S3::start().await;
    s3.seen.signed_refused.store(true, Ordering::Relaxed);
    let told = words(&s3, &[]);
    assert_eq!(s3.seen.signed.load(Ordering::Relaxed), 1);
    assert_eq!(told.to_server, SUM + told.large);
    // Why, the host may not hear: a bucket that answers before it has read all may close the connection.
    let said = "the bucket did not take the words.txt";
    assert!(told.host_log.contains(said), "{}", told.host_log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_told_so_takes_everything() {
    let s3 = S3::start().await;
    let told = words(&s3, &["--no-direct-uploads"]);
    assert_eq!(s3.seen.signed.load(Ordering::Relaxed), 0);
    assert_eq!((told.to_server, told.to_bucket), (SUM + told.large, 0));
}

async fn send(method: Method, url: &str, signed: &Signed, text: &str) -> StatusCode {
    let request = http().request(method, url).body(text.to_owned());
    let headers = signed.headers.iter();
    let request = headers.fold(request, |request, (name, value)| {
        request.header(name, value)
    });
    request.send().await.unwrap().status()
}

#[tokio::test]
async fn a_signed_url_makes_one_blob_and_does_nothing_else() {
    const NAME: &str = "core/a b%2Fc ünï+.bin";
    let s3 = S3::start().await;
    let blobs = s3.open("s3://boats/fleet").await.unwrap();
    let key = |name: &str, by| BlobKey::Artifact(attempt("a", 1), Some(by), name.to_owned());
    let signed = blobs.place(&key(NAME, 7)).await.unwrap().unwrap();
    let url = signed.url.as_str();
    assert!(
        url.starts_with(&s3.endpoint) && url.contains("X-Amz-Expires=900&"),
        "{url}"
    );

    // Not by another method, without the condition, for another assignment, attempt, artifact or the log.
    let mut wrong = vec![
        send(Method::GET, url, &signed, "").await,
        send(Method::DELETE, url, &signed, "").await,
        http().put(url).body("x").send().await.unwrap().status(),
    ];
    let artifact = url.split_once("/artifacts/").unwrap().1;
    let artifact = artifact.split_once('?').unwrap().0;
    for (from, to) in [
        ("/by/7/", "/by/8/"),
        ("/by/7/", "/by/6/"),
        ("/by/7/", "/"),
        ("/runs/a/1/1/", "/runs/a/2/1/"),
        ("/fleet/", "/"),
        (artifact, "core/other"),
        (&format!("artifacts/{artifact}"), "log"),
        ("X-Amz-Expires=900", "X-Amz-Expires=9000"),
    ] {
        assert!(url.contains(from), "{from} in {url}");
        wrong.push(send(Method::PUT, &url.replace(from, to), &signed, "x").await);
    }
    assert_eq!(wrong, [StatusCode::FORBIDDEN; 11]);
    assert_eq!(s3.left(), [""; 0]);

    assert_eq!(
        send(Method::PUT, url, &signed, "right").await,
        StatusCode::OK
    );
    assert_eq!(get(&blobs, &key(NAME, 7)).await.unwrap(), b"right");
    let again = send(Method::PUT, url, &signed, "late").await;
    assert_eq!(again, StatusCode::PRECONDITION_FAILED);
    assert_eq!(get(&blobs, &key(NAME, 7)).await.unwrap(), b"right");
    // Which is for those who have no credentials.
    put(&blobs, &key(NAME, 7), b"replaced").await.unwrap();
    assert_eq!(get(&blobs, &key(NAME, 7)).await.unwrap(), b"replaced");
}

async fn ask(api: &Api, of: &AttemptId, request: &UploadRequest) -> reqwest::Response {
    let (cell, ordinal) = (of.cell, of.ordinal);
    let path = format!(
        "api/v1/runs/{}/cells/{cell}/attempts/{ordinal}/upload",
        of.run
    );
    let request = api.http.post(api.url(&path)).json(request);
    request.send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_upload_is_told_where() {
    let s3 = S3::start().await;
    let server = server_on(&s3, &[]);
    let api = Api {
        base: server.url.clone(),
        http: http(),
    };
    api.push_image().await;
    let run = api.submit(&matrix(1)).await;
    let mut agent = Agent::new(&api, "one", 1);
    agent.given().await;
    let (attempt, generation) = agent.held.clone().pop_first().unwrap();
    let large = |artifact: Option<&str>| UploadRequest {
        generation,
        bytes: 64 << 10,
        artifact: artifact.map(str::to_owned),
    };
    let place = async |request: UploadRequest| -> UploadPlace {
        ask(&api, &attempt, &request).await.json().await.unwrap()
    };

    let by = format!("/fleet/runs/{}/0/1/by/{generation}/", run.run);
    for (artifact, end) in [(None, "log?"), (Some("a/b c"), "artifacts/a/b%20c?")] {
        let UploadPlace::Url { url, .. } = place(large(artifact)).await else {
            panic!("{artifact:?} goes through the server")
        };
        assert!(url.contains(&format!("{by}{end}")), "{url}");
    }
    let small = UploadRequest {
        bytes: (64 << 10) - 1,
        ..large(None)
    };
    assert_eq!(place(small).await, UploadPlace::Server);

    let long = UploadRequest {
        bytes: (256 << 20) + 1,
        ..large(None)
    };
    let refused = ask(&api, &attempt, &long).await;
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(problem(refused).await.detail.contains("LOG_BYTES_MOST"));
    let outside = ask(&api, &attempt, &large(Some("../log"))).await;
    assert_eq!(outside.status(), StatusCode::BAD_REQUEST);
    let unknown = AttemptId {
        cell: 9,
        ..attempt.clone()
    };
    let unknown = ask(&api, &unknown, &large(None)).await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);

    // What is recorded stays.
    let end = agent.end(&attempt, 0);
    let answer = agent.sync(vec![end]).await;
    assert_eq!(answer.direct_from, Some(64 << 10));
    assert_eq!(place(large(None)).await, UploadPlace::Nowhere);
}

#[tokio::test]
async fn where_blobs_are_in_a_directory_all_goes_to_the_server() {
    let (_data, server) = fresh(5000).await;
    let api = &server.api;
    let run = api.submit(&matrix(1)).await;
    let mut agent = Agent::new(api, "one", 1);
    assert_eq!(agent.sync(Vec::new()).await.direct_from, None);
    let first = AttemptId {
        run: run.run.clone(),
        cell: 0,
        ordinal: 1,
    };
    let large = UploadRequest {
        generation: 1,
        bytes: 1 << 20,
        artifact: None,
    };
    let place: UploadPlace = ask(api, &first, &large).await.json().await.unwrap();
    assert_eq!(place, UploadPlace::Server);
}

#[tokio::test]
async fn hosts_may_reach_the_bucket_at_another_endpoint() {
    let option = "--blobs-public-endpoint";
    let s3 = S3::start().await;
    let blobs = s3.open("s3://boats").await.unwrap();
    let key = BlobKey::Log(attempt("a", 1), Some(1));
    let elsewhere = blobs
        .clone()
        .reached_at(option, "https://s3.boats.example:9000/");
    let signed = elsewhere.unwrap().place(&key).await.unwrap().unwrap();
    let expected = "https://s3.boats.example:9000/boats/runs/a/1/1/by/1/log?";
    assert!(signed.url.starts_with(expected), "{}", signed.url);
    // The server itself stays where it was.
    put(&blobs, &key, b"x").await.unwrap();

    for wrong in [
        "minio",
        "ftp://minio",
        "http://hush@minio",
        "http://minio/?x",
    ] {
        let refused = blobs.clone().reached_at(option, wrong);
        let text = refused.unwrap_err().to_string();
        assert!(text.contains(option) && !text.contains("hush"), "{text}");
    }
    let directory = crate::Place::directory().open().await;
    let refused = directory.reached_at(option, "https://minio").unwrap_err();
    assert!(refused.to_string().contains("s3://BUCKET"), "{refused}");
    // Who encrypts does it by headers that hosts do not get.
    let secret = s3.open_but("s3://boats", "AWS_SERVER_SIDE_ENCRYPTION", "AES256");
    assert!(!secret.await.unwrap().signs());
}
