//! `/v2/`: pushing and pulling, with our own hands and with skopeo.

use std::process::Command;

use regatta_model::Digest;
use reqwest::{Response, StatusCode};
use serde_json::Value;

use crate::kit::fresh;

async fn denied(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    (
        status,
        body["errors"][0]["code"].as_str().unwrap().to_owned(),
    )
}

#[tokio::test]
async fn a_blob_is_pushed_in_chunks_and_pulled_in_parts() {
    let (_data, server) = fresh(5000).await;
    let api = &server.api;
    let bytes: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let digest = Digest::of(&bytes);
    let begun = api
        .http
        .post(api.url("v2/regatta/files/blobs/uploads/"))
        .send()
        .await
        .unwrap();
    assert_eq!(begun.status(), StatusCode::ACCEPTED);
    let upload = begun.headers()["location"]
        .to_str()
        .unwrap()
        .trim_start_matches('/')
        .to_owned();
    let chunk = |from: usize, to: usize| {
        let range = format!("{from}-{}", to - 1);
        api.http
            .patch(api.url(&upload))
            .header("content-range", range)
            .body(bytes[from..to].to_vec())
            .send()
    };
    assert_eq!(
        chunk(0, 60_000).await.unwrap().headers()["range"],
        "0-59999"
    );
    assert_eq!(
        chunk(0, 60_000).await.unwrap().status(),
        StatusCode::RANGE_NOT_SATISFIABLE
    );
    assert_eq!(
        chunk(60_000, 100_000).await.unwrap().headers()["range"],
        "0-99999"
    );
    let ended = api
        .http
        .put(api.url(&format!("{upload}?digest={digest}")))
        .send()
        .await
        .unwrap();
    assert_eq!(ended.status(), StatusCode::CREATED);
    assert_eq!(
        ended.headers()["docker-content-digest"],
        digest.to_string().as_str()
    );
    assert_eq!(
        denied(api.http.patch(api.url(&upload)).send().await.unwrap())
            .await
            .0,
        404
    );

    let blob = api.url(&format!("v2/regatta/files/blobs/{digest}"));
    let head = api.http.head(&blob).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], "100000");
    let part = api
        .http
        .get(&blob)
        .header("range", "bytes=99990-")
        .send()
        .await
        .unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.headers()["content-range"], "bytes 99990-99999/100000");
    assert_eq!(part.bytes().await.unwrap(), bytes[99_990..]);
    let past = api
        .http
        .get(&blob)
        .header("range", "bytes=100000-")
        .send()
        .await
        .unwrap();
    assert_eq!(past.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(
        api.http
            .get(&blob)
            .send()
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap(),
        bytes
    );
}

#[tokio::test]
async fn what_is_not_what_it_claims_is_refused_and_leaves_nothing() {
    let (data, server) = fresh(5000).await;
    let api = &server.api;
    let lie = Digest::of(b"something else");
    let sent = api
        .http
        .post(api.url(&format!("v2/regatta/x/blobs/uploads/?digest={lie}")))
        .body("bytes");
    assert_eq!(
        denied(sent.send().await.unwrap()).await,
        (400, "DIGEST_INVALID".into())
    );
    assert_eq!(
        api.get(&format!("v2/regatta/x/blobs/{lie}")).await.status(),
        404
    );
    let put = async |reference: &str, body: String| {
        denied(
            api.http
                .put(api.url(&format!("v2/regatta/x/manifests/{reference}")))
                .body(body)
                .send()
                .await
                .unwrap(),
        )
        .await
    };
    assert_eq!(
        put("1", "nonsense".into()).await,
        (400, "MANIFEST_INVALID".into())
    );
    let part = format!(r#"{{"mediaType":"","digest":"{lie}","size":1}}"#);
    let manifest = format!(r#"{{"schemaVersion":2,"config":{part},"layers":[]}}"#);
    assert_eq!(
        put("1", manifest.clone()).await,
        (400, "MANIFEST_BLOB_UNKNOWN".into())
    );
    assert_eq!(
        put(&lie.to_string(), manifest).await,
        (400, "DIGEST_INVALID".into())
    );
    assert_eq!(api.get("v2/regatta/x/manifests/1").await.status(), 404);
    assert_eq!(api.get("v2/regatta/x/tags/list").await.status(), 404);
    assert_eq!(
        denied(api.get("v2/UPPER/manifests/1").await).await,
        (400, "NAME_INVALID".into())
    );
    assert_eq!(denied(api.get("v2/a/b").await).await.0, 404);
    assert_eq!(denied(api.post("v2/a/manifests/1").await).await.0, 405);
    assert_eq!(
        std::fs::read_dir(data.path().join("server/uploads"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn uploads_at_once_are_bounded() {
    let (_data, server) = fresh(5000).await;
    let mut last = None;
    for _ in 0..65 {
        last = Some(server.api.post("v2/regatta/x/blobs/uploads/").await);
    }
    assert_eq!(denied(last.unwrap()).await, (429, "TOOMANYREQUESTS".into()));
}

#[tokio::test]
async fn skopeo_pulls_what_was_pushed_and_pushes_it_back_under_the_same_digest() {
    let (data, server) = fresh(5000).await;
    let digest = server.api.push_image().await;
    let host = server.api.base.strip_prefix("http://").unwrap().to_owned();
    let skopeo = |args: Vec<String>| async move {
        let output = tokio::task::spawn_blocking(move || {
            Command::new("skopeo").args(args).output().unwrap()
        });
        let output = output.await.unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let inspect = |name: &str| {
        let reference = format!("docker://{host}/regatta/{name}");
        vec![
            "inspect".into(),
            "--tls-verify=false".into(),
            "--format={{.Digest}}".into(),
            reference,
        ]
    };
    assert_eq!(skopeo(inspect("mini:1")).await.trim(), digest.to_string());
    let layout = format!("oci:{}:x", data.path().join("layout").display());
    let there = vec![
        "copy".into(),
        "--src-tls-verify=false".into(),
        format!("docker://{host}/regatta/mini:1"),
        layout.clone(),
    ];
    skopeo(there).await;
    let back = vec![
        "copy".into(),
        "--dest-tls-verify=false".into(),
        layout,
        format!("docker://{host}/regatta/again:2"),
    ];
    skopeo(back).await;
    assert_eq!(skopeo(inspect("again:2")).await.trim(), digest.to_string());
    let tags: Value = server.api.json("v2/regatta/again/tags/list").await;
    assert_eq!(tags["tags"], serde_json::json!(["2"]));
    server
        .api
        .submit("image: again:2\naxes: {n: [1]}\ntest: {run: x}\n")
        .await;
}
