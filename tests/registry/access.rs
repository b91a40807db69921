//! Who one is at a registry, and what is never said to whom. May not: use the logins of whoever runs it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;

use base64::Engine as _;
use regatta_image::reference::Repository;
use regatta_image::registry::{Client, Options};
use regatta_image::{Platform, Silent};
use regatta_model::Digest;
use serde_json::json;

use crate::place::{Place, client, run, with_config};
use crate::server::Registry;
use crate::tokens;
use crate::wire::{Fixed, answer};

fn config(place: &Place, name: &str, value: &serde_json::Value) -> std::path::PathBuf {
    let path = place.path(name);
    fs::write(&path, value.to_string()).unwrap();
    path
}

fn basic(user: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(user)
}

fn with_passwords(dir: &Path) -> Registry {
    let file = dir.join("htpasswd");
    fs::write(&file, run("htpasswd", &["-Bbn", "me", "secret"])).unwrap();
    let auth = format!(
        "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
        file.display()
    );
    Registry::with(dir, "127.0.0.1", &auth)
}

#[test]
fn a_password_from_dockers_configuration_opens_the_registry() {
    let place = Place::new();
    let registry = with_passwords(place.dir.path());
    let image = place.image("mine", 10_000);
    let name = registry.name("mine:1");
    let host = format!("127.0.0.1:{}", registry.port);
    let right = config(
        &place,
        "right.json",
        &json!({"auths": {&host: {"auth": basic("me:secret")}}}),
    );
    let wrong = config(
        &place,
        "wrong.json",
        &json!({"auths": {&host: {"auth": basic("me:guess")}}}),
    );
    for client in [client(), with_config(Some(&wrong))] {
        let error = place.push(&client, &image, &name).unwrap_err();
        assert!(
            error.contains("401") && error.contains(&format!("docker login {host}")),
            "{error}"
        );
        assert!(!error.contains("guess"), "{error}");
    }
    let client = with_config(Some(&right));
    place.push(&client, &image, &name).unwrap();
    assert_eq!(
        place
            .pull(&client, &place.other_store("other"), &name)
            .unwrap(),
        image
    );
    let odd = config(
        &place,
        "odd.json",
        &json!({"auths": {&host: {"auth": "%%%"}}}),
    );
    let error = place
        .push(&with_config(Some(&odd)), &image, &name)
        .unwrap_err();
    assert!(
        error.contains("odd.json") && error.contains("base64"),
        "{error}"
    );
}

#[test]
fn tokens_are_fetched_kept_and_limited_to_what_they_allow() {
    let place = Place::new();
    let tokens = tokens::start(place.dir.path());
    let registry = Registry::with(place.dir.path(), "127.0.0.1", &tokens.section);
    let image = place.image("mine", 10_000);
    let host = format!("127.0.0.1:{}", registry.port);
    let right = config(
        &place,
        "right.json",
        &json!({"auths": {&host: {"auth": basic("me:secret")}}}),
    );
    let wrong = config(
        &place,
        "wrong.json",
        &json!({"auths": {&host: {"auth": basic("me:guess")}}}),
    );
    let me = with_config(Some(&right));
    place
        .push(&me, &image, &registry.name("public/a:1"))
        .unwrap();
    let asked = tokens.server.asked();
    assert!(
        asked
            .iter()
            .all(|asked| asked.line.contains("public%2Fa%3Apull%2Cpush")),
        "{asked:?}"
    );
    assert!(
        asked.len() <= 4,
        "a token serves many requests: {}",
        asked.len()
    );
    place
        .push(&me, &image, &registry.name("private/a:1"))
        .unwrap();
    let store = place.other_store("other");
    assert_eq!(
        place
            .pull(&me, &store, &registry.name("private/a:1"))
            .unwrap(),
        image
    );
    let anybody = place.other_store("anybody");
    assert_eq!(
        place
            .pull(&client(), &anybody, &registry.name("public/a:1"))
            .unwrap(),
        image
    );
    let error = place
        .pull(&client(), &anybody, &registry.name("private/a:1"))
        .unwrap_err();
    assert!(
        error.contains("401") && error.contains("docker login"),
        "{error}"
    );
    let error = place
        .push(&client(), &image, &registry.name("public/a:2"))
        .unwrap_err();
    assert!(error.contains("docker login"), "{error}");
    let error = place
        .pull(
            &with_config(Some(&wrong)),
            &anybody,
            &registry.name("private/a:1"),
        )
        .unwrap_err();
    assert!(
        error.contains("token server") && error.contains("docker login"),
        "{error}"
    );
    assert!(!error.contains("guess"), "{error}");
}

/// Runs this test again in a process of its own with other variables; false there.
fn again_with(name: &str, variables: &[(&str, &str)]) -> bool {
    const INNER: &str = "REGATTA_TEST_INNER";
    if std::env::var_os(INNER).is_some() {
        return false;
    }
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .envs(variables.iter().copied())
        .env(INNER, "1")
        .status();
    assert!(status.unwrap().success());
    true
}

#[test]
fn a_credential_helper_is_asked() {
    // Its program is found by PATH, which only another process can have changed.
    let dir = tempfile::tempdir().unwrap();
    let script = |name: &str, text: &str| {
        let path = dir.path().join(format!("docker-credential-{name}"));
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    script(
        "good",
        "read host; test \"$1\" = get && echo '{\"Username\":\"me\",\"Secret\":\"secret\"}'",
    );
    script("bad", "echo out of order; exit 3");
    script(
        "none",
        "echo credentials not found in native keychain; exit 1",
    );
    let path = format!(
        "{}:{}",
        dir.path().display(),
        std::env::var("PATH").unwrap()
    );
    if again_with("access::a_credential_helper_is_asked", &[("PATH", &path)]) {
        return;
    }
    let place = Place::new();
    let registry = with_passwords(place.dir.path());
    let image = place.image("mine", 10_000);
    let host = format!("127.0.0.1:{}", registry.port);
    let push = |value: serde_json::Value| {
        let path = config(&place, "config.json", &value);
        place.push(&with_config(Some(&path)), &image, &registry.name("mine:1"))
    };
    push(json!({"credHelpers": {&host: "good"}})).unwrap();
    push(json!({"credsStore": "good"})).unwrap();
    push(json!({"credsStore": "none", "auths": {&host: {"auth": basic("me:secret")}}})).unwrap();
    let error = push(json!({"credHelpers": {&host: "none"}})).unwrap_err();
    assert!(error.contains("401"), "{error}");
    for (helper, part) in [
        ("bad", "out of order"),
        ("missing", "cannot be started"),
        ("../x", "no program has"),
    ] {
        let error = push(json!({"credHelpers": {&host: helper}})).unwrap_err();
        assert!(
            error.contains(part) && error.contains(&format!("docker-credential-{helper}")),
            "{error}"
        );
    }
}

#[test]
fn a_redirect_does_not_take_the_password_along() {
    let place = Place::new();
    let digest = Digest::of(b"content");
    let elsewhere = Fixed::start("127.0.0.1", |_, _| answer("200 OK", &[], b"content"));
    let target = format!("http://127.0.0.1:{}/blob?signed", elsewhere.port);
    let registry = Fixed::start("127.0.0.1", move |asked, _| {
        match asked.header("authorization") {
            None => answer(
                "401 Unauthorized",
                &[("WWW-Authenticate", "Basic realm=\"x\"")],
                b"",
            ),
            Some(_) => answer("307 Temporary Redirect", &[("Location", &target)], b""),
        }
    });
    let host = format!("127.0.0.1:{}", registry.port);
    let path = config(
        &place,
        "config.json",
        &json!({"auths": {&host: {"auth": basic("me:secret")}}}),
    );
    let repository = Repository::parse(&format!("{host}/x")).unwrap();
    let client = with_config(Some(&path));
    place
        .runtime
        .block_on(client.fetch_blob(&repository, &digest, &place.store, &Silent))
        .unwrap();
    assert!(
        registry
            .asked()
            .iter()
            .any(|asked| asked.header("authorization").is_some())
    );
    let asked = elsewhere.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("authorization"), None);
}

#[test]
fn plain_http_is_for_this_machine_or_on_request() {
    let place = Place::new();
    // An address of this machine that is not loopback: to the client it is another machine.
    let address = run("hostname", &["-I"])
        .split_whitespace()
        .next()
        .map(str::to_owned);
    let address = address.expect("this machine has no address besides loopback");
    let listener = TcpListener::bind((address.as_str(), 0)).unwrap();
    let name = format!("{}/x:1", listener.local_addr().unwrap());
    let (sender, first) = channel();
    std::thread::spawn(move || {
        use std::io::Read as _;
        for stream in listener.incoming() {
            let mut byte = [0];
            let Ok(mut stream) = stream else { return };
            if stream.read_exact(&mut byte).is_ok() && sender.send(byte[0]).is_err() {
                return;
            }
        }
    });
    let error = place.pull(&client(), &place.store, &name).unwrap_err();
    assert!(error.contains("--plain-http"), "{error}");
    let bytes: Vec<u8> = first.try_iter().collect();
    assert!(
        !bytes.is_empty() && bytes.iter().all(|byte| *byte == 0x16),
        "only TLS was spoken: {bytes:?}"
    );
    // On request it is.
    let registry = Registry::with(place.dir.path(), &address, "");
    let client = Client::new(Options {
        plain_http: true,
        docker_config: None,
        platform: Platform::host(),
    })
    .unwrap();
    let image = place.image("mine", 1_000);
    let name = format!("{address}:{}/mine:1", registry.port);
    place.push(&client, &image, &name).unwrap();
    assert_eq!(
        place
            .pull(&client, &place.other_store("other"), &name)
            .unwrap(),
        image
    );
}

#[test]
fn the_machines_certificates_are_trusted_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).display().to_string();
    // The variable is read by another process; the certificates are made there anew.
    let bundle = std::env::var("REGATTA_TEST_BUNDLE").unwrap_or_else(|_| file("bundle.pem"));
    if std::env::var_os("REGATTA_TEST_BUNDLE").is_none() {
        let variables = [
            ("REGATTA_TEST_BUNDLE", bundle.as_str()),
            ("SSL_CERT_FILE", &bundle),
            ("SSL_CERT_DIR", "/none"),
        ];
        assert!(again_with(
            "access::the_machines_certificates_are_trusted_and_no_others",
            &variables
        ));
        return;
    }
    let extensions = file("extensions");
    fs::write(
        &extensions,
        "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n",
    )
    .unwrap();
    let (ca_key, key, request, certificate) = (
        file("ca.key"),
        file("key"),
        file("request"),
        file("certificate"),
    );
    run(
        "openssl",
        &[
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=ca",
            "-keyout", &ca_key, "-out", &bundle,
        ],
    );
    run(
        "openssl",
        &[
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=registry",
            "-keyout",
            &key,
            "-out",
            &request,
        ],
    );
    run(
        "openssl",
        &[
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            &request,
            "-CA",
            &bundle,
            "-CAkey",
            &ca_key,
            "-CAcreateserial",
            "-extfile",
            &extensions,
            "-out",
            &certificate,
        ],
    );
    let place = Place::new();
    let tls = format!("  tls:\n    certificate: {certificate}\n    key: {key}\n");
    let registry = Registry::with(place.dir.path(), "127.0.0.1", &tls);
    let image = place.image("mine", 1_000);
    place
        .push(&client(), &image, &registry.name("mine:1"))
        .unwrap();
    let other = place.other_store("other");
    assert_eq!(
        place
            .pull(&client(), &other, &registry.name("mine:1"))
            .unwrap(),
        image
    );
    // A bundle without that authority: the registry is not believed.
    run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=other",
            "-keyout",
            &ca_key,
            "-out",
            &bundle,
        ],
    );
    assert!(
        place
            .pull(
                &client(),
                &place.other_store("third"),
                &registry.name("mine:1")
            )
            .is_err()
    );
}
