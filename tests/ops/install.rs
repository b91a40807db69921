//! `ops/install` below a directory of its own: what it puts there, and that `--remove` takes all of it away.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use regatta_tests::command::{Done, regatta, root};

fn install(root_directory: &Path, arguments: &[&str]) -> Done {
    let mut command = Command::new(root().join("ops/install"));
    command.args(arguments).arg("--root").arg(root_directory);
    Done::of(&mut command)
}

fn tree(directory: &Path) -> BTreeSet<String> {
    let output = Command::new("find")
        .arg(directory)
        .args(["-type", "f", "-printf", "%P %m\\n"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn what_is_installed_is_what_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let binary = regatta();
    let binary = binary.to_str().unwrap();
    install(
        directory.path(),
        &["server", "--binary", binary, "--listen", "127.0.0.1:7471"],
    )
    .expect(0);
    let agent = [
        "agent",
        "--binary",
        binary,
        "--server",
        "http://127.0.0.1:7471",
        "--slots",
        "3",
        "--label",
        "disk=ssd",
    ];
    let done = install(directory.path(), &agent).expect(0);
    let files = tree(directory.path());
    let expected = [
        "etc/regatta/agent.env 640",
        "etc/regatta/server.env 640",
        "etc/systemd/system/regatta-agent.service 644",
        "etc/systemd/system/regatta-executor.service 644",
        "etc/systemd/system/regatta-server.service 644",
        "usr/local/bin/regatta 755",
    ];
    assert_eq!(files, expected.map(str::to_owned).into());
    for file in expected.iter().filter(|file| !file.contains("server")) {
        let name = file.split(' ').next().unwrap();
        assert!(
            done.out.contains(name),
            "it does not say that it made {name}: {}",
            done.out
        );
    }
    let env = std::fs::read_to_string(directory.path().join("etc/regatta/agent.env")).unwrap();
    assert_eq!(
        env,
        "REGATTA_SERVER=http://127.0.0.1:7471\nAGENT_ARGS=--slots 3 --label disk=ssd\n"
    );

    install(directory.path(), &["server", "--remove", "--purge"]).expect(0);
    assert!(
        tree(directory.path()).contains("usr/local/bin/regatta 755"),
        "the agent still needs the program"
    );
    install(directory.path(), &["agent", "--remove"]).expect(0);
    assert_eq!(
        tree(directory.path()),
        ["etc/regatta/agent.env 640".to_owned()].into(),
        "settings stay"
    );
    install(directory.path(), &["agent", "--remove", "--purge"]).expect(0);
    assert!(tree(directory.path()).is_empty());
}

#[test]
fn settings_that_are_there_stay_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let binary = regatta();
    let binary = binary.to_str().unwrap();
    install(directory.path(), &["server", "--binary", binary]).expect(0);
    let env = directory.path().join("etc/regatta/server.env");
    std::fs::write(&env, "SERVER_ARGS=--lease 30\n").unwrap();
    let done = install(
        directory.path(),
        &["server", "--binary", binary, "--listen", "127.0.0.1:1"],
    )
    .expect(0);
    assert_eq!(
        std::fs::read_to_string(&env).unwrap(),
        "SERVER_ARGS=--lease 30\n"
    );
    assert!(done.out.contains("kept"), "{}", done.out);
}

#[test]
fn an_agent_without_a_server_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let done = install(directory.path(), &["agent", "--binary", "/bin/true"]).expect(2);
    assert!(done.err.contains("--server URL"), "{}", done.err);
    assert!(tree(directory.path()).is_empty());
    let done = install(directory.path(), &["agent", "--server", "http://x y"]).expect(2);
    assert!(done.err.contains("no spaces"), "{}", done.err);
}
