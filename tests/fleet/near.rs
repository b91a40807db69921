//! Cells run where their images are, and images are on a host before they are needed: by what lies in hosts' stores.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use regatta_tests::command::Data;
use regatta_tests::process::{Host, Server};
use regatta_tests::{busybox, wait_until};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(120);

/// Each attempt waits until its host's gate is open.
const TEST: &str = "volumes: [{name: gate, at: /gate}]\n\
                    test: {run: \"until [ -e /gate/open ]; do sleep 0.1; done\"}\n";

/// A root like busybox', with a file of this name.
fn root_tar(data: &Data, name: &str) -> PathBuf {
    let tar = data.path().join(format!("{name}.tar"));
    std::fs::copy(busybox::root_tar(data), &tar).unwrap();
    let directory = data.path().join("files");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join(name), name).unwrap();
    let done = Command::new("tar")
        .args(["--append", "--owner=0", "--group=0", "--mtime=@0"])
        .arg("--file")
        .arg(&tar)
        .arg("--directory")
        .arg(&directory)
        .arg(name)
        .status();
    assert!(done.unwrap().success());
    tar
}

/// Imports it into a store; gives the digest of its manifest.
fn import(data: &Data, name: &str, tar: &Path) -> String {
    data.run(["image", "import", tar.to_str().unwrap(), name])
        .expect(0);
    let told = data.run(["image", "inspect", name]).expect(0).json();
    told["digest"].as_str().unwrap().to_owned()
}

fn has(host: &Host, digest: &str) -> bool {
    let hex = digest.trim_start_matches("sha256:");
    let blobs = host.data.path().join("images/blobs/sha256");
    blobs.join(hex).is_file()
}

fn open_gate(host: &Host) {
    std::fs::write(host.data.path().join("volumes/gate/open"), "").unwrap();
}

fn close_gate(host: &Host) {
    std::fs::create_dir_all(host.data.path().join("volumes/gate")).unwrap();
}

fn submit(server: &Server, axes: &str) -> String {
    let matrix = format!("name: near\nimage: \"${{{{ matrix.image }}}}\"\naxes: {axes}\n{TEST}");
    let file = server.data.file("matrix.yaml", &matrix);
    let words = ["submit", file.to_str().unwrap(), "--server", &server.url];
    let run = server.data.run(words).expect(0).out;
    format!("/api/v1/runs/{}", run.trim())
}

fn until_finished(server: &Server, run: &str) {
    wait_until("the run is over", PATIENCE, || {
        server
            .get(run)
            .is_some_and(|run| run["state"] == "finished")
    });
    let report = server.get(&format!("{run}/report")).unwrap();
    for cell in report["cells"].as_array().unwrap() {
        assert_eq!(cell["verdict"], "passed", "{cell}");
    }
}

#[test]
fn no_host_fetches_what_the_other_one_has() {
    regatta_tests::need_root();
    let mut server = Server::start(10);
    let tars = ["x", "y"].map(|name| root_tar(&server.data, name));
    let digests = [("x", &tars[0]), ("y", &tars[1])].map(|(n, tar)| import(&server.data, n, tar));
    // The second host has the first image.
    let mut hosts = ["left", "right"].map(|name| Host::start(&server, name, 2));
    for host in &mut hosts {
        host.kill_agent();
        close_gate(host);
    }
    assert_eq!(import(&hosts[0].data, "y", &tars[1]), digests[1]);
    assert_eq!(import(&hosts[1].data, "x", &tars[0]), digests[0]);
    // It forgets that the hosts were there, so that each is heard with what it has now.
    server.kill_and_restart();
    for host in &mut hosts {
        host.restart_agent();
    }
    let until_all = |what: &str, is: fn(&Value) -> bool| {
        wait_until(what, PATIENCE, || {
            let told = server.get("/api/v1/hosts").unwrap_or_default();
            told.as_array()
                .is_some_and(|hosts| hosts.iter().filter(|host| is(host)).count() == 2)
        });
    };
    until_all("both hosts are there", |host| host["health"] == "ready");
    let run = submit(&server, "{image: [x, y], n: [1, 2]}");
    until_all("all places are taken", |host| host["held"] == 2);
    hosts.iter().for_each(open_gate);
    until_finished(&server, &run);
    assert!(has(&hosts[0], &digests[1]) && has(&hosts[1], &digests[0]));
    assert!(!has(&hosts[0], &digests[0]), "{}", hosts[0].log());
    assert!(!has(&hosts[1], &digests[1]), "{}", hosts[1].log());
}

#[test]
fn a_busy_host_has_the_next_image_before_the_attempt_that_needs_it() {
    regatta_tests::need_root();
    let server = Server::start(4);
    let tars = ["x", "y"].map(|name| root_tar(&server.data, name));
    let digests = [("x", &tars[0]), ("y", &tars[1])].map(|(n, tar)| import(&server.data, n, tar));
    let host = Host::start(&server, "only", 1);
    close_gate(&host);
    let run = submit(&server, "{image: [x, y]}");
    let said = format!(
        "the image {} is here before an attempt needs it",
        digests[1]
    );
    wait_until("the next image is there", PATIENCE, || {
        host.log().contains(&said)
    });
    assert!(has(&host, &digests[1]));
    let told = server.get(&run).unwrap();
    assert_eq!(
        (&told["progress"]["running"], &told["progress"]["attempts"]),
        (&1.into(), &0.into())
    );
    open_gate(&host);
    until_finished(&server, &run);
}
