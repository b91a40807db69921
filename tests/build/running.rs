//! RUN: its forms, its environment, its caches, and how a failing command is told. May not: need a network.

use std::fs;

use crate::place::Place;

#[test]
fn commands_run_in_every_form() {
    let place = Place::with_busybox();
    let image = place
        .build(
            "FROM busybox\n\
             ENV GREETING=hello\n\
             ARG WHO=world\n\
             RUN echo $GREETING $WHO > /shell\n\
             RUN [\"/bin/sh\", \"-c\", \"echo exec > /exec\"]\n\
             RUN <<EOF\n\
             # a script\n\
             set -e\n\
             echo here > /heredoc\n\
             echo $GREETING >> /heredoc\n\
             EOF\n\
             RUN cat <<'A' > /a && cat <<B > /b\n\
             $GREETING\n\
             A\n\
             $GREETING\n\
             B\n\
             RUN <<EOF\n\
             #!/bin/sh -e\n\
             echo script $0 > /script\n\
             EOF\n\
             SHELL [\"/bin/sh\", \"-xec\"]\n\
             RUN echo \\\n\
             # a comment between\n\
             joined > /joined\n\
             RUN chmod 1777 /tmp\n\
             USER tester\n\
             WORKDIR /home/tester\n\
             RUN echo $HOME $(id -u):$(id -g) $(id -G) $PWD > /tmp/who\n",
        )
        .unwrap();
    let tree = place.tree(&image);
    for (path, expected) in [
        ("/shell", "hello world\n 644 0:0"),
        ("/exec", "exec\n 644 0:0"),
        ("/heredoc", "here\nhello\n 644 0:0"),
        ("/a", "$GREETING\n 644 0:0"),
        ("/b", "hello\n 644 0:0"),
        ("/script", "script /dev/fd/9\n 644 0:0"),
        ("/joined", "joined\n 644 0:0"),
        (
            "/tmp/who",
            "/home/tester 1000:1000 1000 2000 /home/tester\n 644 1000:1000",
        ),
    ] {
        assert_eq!(tree.get(path).map(String::as_str), Some(expected), "{path}");
    }
    for stray in ["/etc/resolv.conf", "/dev", "/proc", "/sys", "/run"] {
        assert!(
            !tree.contains_key(stray),
            "{stray} is the container's, not the image's"
        );
    }
}

#[test]
fn what_a_command_removes_is_gone_and_links_and_modes_stay() {
    let place = Place::with_busybox();
    let image = place
        .build(
            "FROM busybox\n\
             RUN mkdir -p /d/sub && echo x > /d/sub/x && echo y > /d/y && ln /d/y /d/hard\n\
             RUN rm -r /d/sub && mkdir /d/sub && echo z > /d/sub/z && rm /d/y\n\
             RUN chown tester:extra /d/hard && chmod 4750 /d/hard && ln -s /nowhere /d/link\n\
             RUN mkdir /fresh && echo a > /fresh/a && ln /fresh/a /fresh/b\n",
        )
        .unwrap();
    let tree = place.tree(&image);
    assert_eq!(tree["/d/sub/z"], "z\n 644 0:0");
    assert!(!tree.contains_key("/d/sub/x") && !tree.contains_key("/d/y"));
    assert_eq!(tree["/d/hard"], "y\n 4750 1000:2000");
    assert_eq!(tree["/d/link"], "-> /nowhere 777 0:0");
    let layers = place.store.unpack(&image).unwrap();
    assert_eq!(
        crate::place::links(&layers.last().unwrap().join("fresh/a")),
        2
    );
}

#[test]
fn a_failing_command_is_told_with_its_line_and_its_last_output() {
    let place = Place::with_busybox();
    let error = place
        .build("FROM busybox\n\nRUN for i in $(seq 1 50); do echo line $i; done \\\n    && echo oops >&2; exit 7\n")
        .unwrap_err();
    assert!(
        error.contains("the command ended with exit status 7"),
        "{error}"
    );
    assert!(error.contains("Containerfile:3:1"), "{error}");
    assert!(
        error.contains("line 50") && error.contains("oops"),
        "{error}"
    );
    assert!(
        !error.contains("line 20\n"),
        "only the end of its output is told: {error}"
    );
    assert!(
        place.said().contains(&"  | line 1".to_owned()),
        "all of it went by"
    );
    let error = place
        .build("FROM busybox\nRUN [\"/no/such/program\"]\n")
        .unwrap_err();
    assert!(
        error.contains("the command cannot start") && error.contains("/no/such/program"),
        "{error}"
    );
    let error = place
        .build("FROM busybox\nUSER eve\nRUN true\n")
        .unwrap_err();
    assert!(
        error.contains("no user \"eve\"") && error.contains(":3:1"),
        "{error}"
    );
}

#[test]
fn caches_outlive_a_step_and_are_not_in_the_image() {
    let place = Place::with_busybox();
    let text = "FROM busybox\n\
        RUN --mount=type=cache,target=/cache,id=mine echo one >> /cache/log; cp /cache/log /first\n\
        RUN --mount=type=cache,target=/other/deep,id=mine,sharing=locked echo two >> /other/deep/log; cp /other/deep/log /second\n\
        RUN --mount=type=cache,target=/cache,id=mine,ro ! touch /cache/x 2>/dev/null\n";
    let image = place.build(text).unwrap();
    let tree = place.tree(&image);
    assert_eq!(tree["/first"], "one\n 644 0:0");
    assert_eq!(tree["/second"], "one\ntwo\n 644 0:0");
    assert!(!tree.contains_key("/cache/log") && !tree.contains_key("/other/deep/log"));
    let kept = fs::read_to_string(place.data.path().join("cache/mine/log")).unwrap();
    assert_eq!(kept, "one\ntwo\n");
}
