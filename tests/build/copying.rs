//! COPY: where things go, whose they are, what is left out. May not: need the executor.

use std::fs;
use std::os::unix::fs::symlink;

use regatta_image::Silent;
use regatta_image::archive::Import;

use crate::place::{Place, set_mode};

#[test]
fn files_and_directories_go_where_docker_puts_them() {
    let place = Place::with_busybox();
    place.file("a.txt", "a");
    place.file("b.txt", "b");
    place.file("src/one", "1");
    place.file("src/deep/two", "2");
    set_mode(&place.context().join("src/one"), 0o755);
    let image = place
        .build(
            "FROM busybox\n\
             WORKDIR /place/here\n\
             COPY a.txt renamed\n\
             COPY a.txt into/\n\
             COPY *.txt many/\n\
             COPY src /target\n\
             COPY src/ /tmp\n\
             COPY [\"b.txt\", \"/with space\"]\n\
             COPY --chmod=600 a.txt /moded\n\
             COPY --chown=tester a.txt /owned/by/tester\n\
             COPY --chown=5:6 src /numbers\n",
        )
        .unwrap();
    let tree = place.tree(&image);
    for (path, expected) in [
        ("/place", "dir 755 0:0"),
        ("/place/here", "dir 755 0:0"),
        ("/place/here/renamed", "a 644 0:0"),
        ("/place/here/into/a.txt", "a 644 0:0"),
        ("/place/here/many/a.txt", "a 644 0:0"),
        ("/place/here/many/b.txt", "b 644 0:0"),
        ("/target/one", "1 755 0:0"),
        ("/target/deep/two", "2 644 0:0"),
        ("/tmp/one", "1 755 0:0"),
        ("/with space", "b 644 0:0"),
        ("/moded", "a 600 0:0"),
        ("/owned", "dir 755 1000:1000"),
        ("/owned/by/tester", "a 644 1000:1000"),
        ("/numbers", "dir 755 5:6"),
        ("/numbers/deep/two", "2 644 5:6"),
        ("/bin/sh", "-> busybox 777 0:0"),
    ] {
        assert_eq!(tree.get(path).map(String::as_str), Some(expected), "{path}");
    }
}

#[test]
fn a_directory_of_the_image_keeps_its_owner_and_mode() {
    let place = Place::new();
    let root = place.data.path().join("root");
    fs::create_dir_all(root.join("sticky")).unwrap();
    fs::create_dir_all(root.join("usr/lib")).unwrap();
    set_mode(&root.join("sticky"), 0o1777);
    std::os::unix::fs::chown(root.join("sticky"), Some(7), Some(8)).unwrap();
    symlink("usr/lib", root.join("lib")).unwrap();
    let tar = place.data.path().join("root.tar");
    let status = std::process::Command::new("tar")
        .args(["--create", "--file"])
        .arg(&tar)
        .arg("--directory")
        .arg(&root)
        .arg(".")
        .status();
    assert!(status.unwrap().success());
    place
        .store
        .import(
            fs::File::open(&tar).unwrap(),
            "base",
            &Import::default(),
            &Silent,
        )
        .unwrap();
    place.file("src/x", "x");
    let image = place
        .build(
            "FROM base\nCOPY src /sticky\nCOPY src/x /sticky/y\nCOPY src /lib\nCOPY src/x /lib/z",
        )
        .unwrap();
    let tree = place.tree(&image);
    assert_eq!(tree["/sticky"], "dir 1777 7:8");
    assert_eq!(tree["/sticky/x"], "x 644 0:0");
    assert_eq!(tree["/sticky/y"], "x 644 0:0");
    assert_eq!(
        tree["/lib"], "-> usr/lib 777 0:0",
        "a link to a directory is gone through, not replaced"
    );
    assert_eq!(tree["/usr/lib/x"], "x 644 0:0");
    assert_eq!(tree["/usr/lib/z"], "x 644 0:0");
}

#[test]
fn a_directory_never_replaces_a_file_nor_a_file_a_directory() {
    let place = Place::with_busybox();
    place.file("top/bin", "no directory");
    place.file("links/bin/sh/x", "sh is a link there");
    let error = place.build("FROM busybox\nCOPY top /\n").unwrap_err();
    assert!(
        error.contains("the directory /bin in the image would become a file"),
        "{error}"
    );
    let error = place.build("FROM busybox\nCOPY links /\n").unwrap_err();
    assert!(
        error.contains("the file or link /bin/sh in the image would become a directory"),
        "{error}"
    );
    let error = place
        .build("FROM busybox\nCOPY links /bin/sh\n")
        .unwrap_err();
    assert!(
        error.contains("/bin/sh is no directory in the image"),
        "{error}"
    );
}

#[test]
fn what_is_ignored_is_not_there() {
    let place = Place::new();
    for name in [
        "keep",
        "a.log",
        "b.log",
        "target/x",
        "src/a.pyc",
        "src/a.py",
        "docs/index",
        "docs/more",
    ] {
        place.file(name, name);
    }
    place.file(
        ".dockerignore",
        "# no logs\n*.log\n!b.log\n/target\n**/*.pyc\ndocs\n!docs/index\n.dockerignore\n",
    );
    let image = place.build("FROM scratch\nCOPY . /\n").unwrap();
    let names: Vec<_> = place.tree(&image).into_keys().collect();
    assert_eq!(
        names,
        [
            "/b.log",
            "/docs",
            "/docs/index",
            "/keep",
            "/src",
            "/src/a.py"
        ]
    );
    let error = place.build("FROM scratch\nCOPY target /x\n").unwrap_err();
    assert!(
        error.contains("\"target\" is not in the build context"),
        "{error}"
    );
    assert!(error.contains(".dockerignore"), "{error}");
    // A file of patterns beside the Containerfile comes first.
    fs::write(
        place.data.path().join("Containerfile.dockerignore"),
        "*\n!a.log\n",
    )
    .unwrap();
    let image = place.build("FROM scratch\nCOPY . /\n").unwrap();
    assert_eq!(
        place.tree(&image).into_keys().collect::<Vec<_>>(),
        ["/a.log"]
    );
}

#[test]
fn stages_are_copied_from_and_unused_ones_are_not_built() {
    let place = Place::with_busybox();
    place.file("x", "x");
    let image = place
        .build(
            "ARG BASE=busybox\n\
             FROM ${BASE} AS one\n\
             COPY --chown=3:4 x /made/x\n\
             FROM no-such-image AS unused\n\
             COPY y /y\n\
             FROM one AS Two\n\
             COPY x /two\n\
             FROM scratch\n\
             COPY --from=one /made /from-one\n\
             COPY --from=two /two /made/x /both/\n\
             COPY --from=0 /made/* /zero/\n\
             COPY --from=busybox /bin/sh /sh\n",
        )
        .unwrap();
    let tree = place.tree(&image);
    assert_eq!(
        tree["/from-one/x"], "x 644 3:4",
        "owners are kept between images"
    );
    assert_eq!(tree["/both/two"], "x 644 0:0");
    assert_eq!(tree["/both/x"], "x 644 3:4");
    assert_eq!(tree["/zero/x"], "x 644 3:4");
    assert!(
        tree["/sh"].contains("755 0:0"),
        "a link is followed within its image: {}",
        tree["/sh"]
    );
    assert_eq!(
        place.config(&image)["config"]["Env"],
        serde_json::Value::Null
    );
    let mut options = place.options("FROM busybox AS a\nLABEL x=1\nFROM scratch AS b\nLABEL y=2\n");
    options.target = Some("a".into());
    let image = place.build_with(&options).unwrap();
    assert_eq!(place.config(&image)["config"]["Labels"]["x"], "1");
    options.target = Some("bb".into());
    assert!(
        place
            .build_with(&options)
            .unwrap_err()
            .contains("did you mean b?")
    );
}

#[test]
fn heredocs_become_files() {
    let place = Place::new();
    let image = place
        .build("FROM scratch\nENV WHO=world\nCOPY <<one <<'two' /d/\nhello ${WHO}\none\nhello ${WHO}\ntwo\nCOPY --chmod=755 <<-END /f\n\t\tx\n\tEND\n")
        .unwrap();
    let tree = place.tree(&image);
    assert_eq!(tree["/d/one"], "hello world\n 644 0:0");
    assert_eq!(tree["/d/two"], "hello ${WHO}\n 644 0:0");
    assert_eq!(tree["/f"], "x\n 755 0:0");
}

#[test]
fn settings_are_recorded() {
    let place = Place::new();
    let mut options = place.options(
        "ARG VERSION=1\n\
         FROM scratch\n\
         ARG VERSION\n\
         ARG OTHER=${VERSION:+set}\n\
         ENV A=1 B=\"two words\" C=$OTHER\n\
         ENV D old form\n\
         ENV A=2 E=$A\n\
         LABEL version=$VERSION \"with space\"='a b'\n\
         EXPOSE 80 53/udp 8000-8002\n\
         VOLUME /data /more\n\
         VOLUME [\"/json\"]\n\
         USER tester:extra\n\
         WORKDIR /a\n\
         WORKDIR b\n\
         STOPSIGNAL SIGINT\n\
         CMD [\"x\"]\n\
         SHELL [\"/bin/sh\", \"-ec\"]\n\
         ENTRYPOINT run $A\n",
    );
    options.args.insert("VERSION".into(), "7".into());
    options.args.insert("UNKNOWN".into(), "x".into());
    let image = place.build_with(&options).unwrap();
    assert!(
        place
            .said()
            .iter()
            .any(|line| line.contains("no ARG declares --build-arg UNKNOWN"))
    );
    let config = place.config(&image);
    let expected = serde_json::json!({
        "Env": ["A=2", "B=two words", "C=set", "D=old form", "E=1"],
        "Labels": {"version": "7", "with space": "a b"},
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {}},
        "Volumes": {"/data": {}, "/more": {}, "/json": {}},
        "User": "tester:extra",
        "WorkingDir": "/a/b",
        "StopSignal": "SIGINT",
        "Cmd": ["x"],
        "Shell": ["/bin/sh", "-ec"],
        "Entrypoint": ["/bin/sh", "-ec", "run $A"],
    });
    assert_eq!(config["config"], expected);
    assert_eq!(config["os"], "linux");
    // The base's CMD does not outlive a new ENTRYPOINT.
    place.store.tag("base", &image).unwrap();
    let image = place.build("FROM base\nENTRYPOINT [\"other\"]\n").unwrap();
    assert_eq!(
        place.config(&image)["config"]["Cmd"],
        serde_json::Value::Null
    );
}
