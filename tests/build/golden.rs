//! Wrong Containerfiles, each with its whole error as a file of `tests/fixtures/containerfiles`. With
//! `REGATTA_GOLDEN=write` the files are written anew. May not: build anything that is right.

use std::fs;

use regatta_image::build;
use regatta_tests::command::root;

use crate::place::Place;

const WRONG: [(&str, &str); 30] = [
    ("add", "FROM scratch\nADD https://example.org/x.tar.gz /x\n"),
    ("healthcheck", "FROM scratch\n\nHEALTHCHECK CMD true\n"),
    ("onbuild", "FROM scratch\nONBUILD RUN true\n"),
    ("maintainer", "FROM scratch\nMAINTAINER me\n"),
    ("unknown", "FROM scratch\nCOPPY a b\n"),
    ("far-from-known", "FROM scratch\nINSTALL a b\n"),
    ("no-from", "# nothing\nARG A=1\n"),
    ("before-from", "ENV A=1\nFROM scratch\n"),
    ("from-words", "FROM a b c d\n"),
    ("from-name", "FROM scratch AS 1st\n"),
    ("stage-twice", "FROM scratch AS a\nFROM scratch AS A\n"),
    ("platform", "FROM --platform=linux/s390x scratch\n"),
    ("empty-image", "ARG BASE\nFROM ${BASE}\n"),
    ("no-image", "FROM no-such-image:1\n"),
    (
        "mount-bind",
        "FROM scratch\nRUN --mount=type=bind,target=/x true\n",
    ),
    (
        "mount-secret",
        "FROM scratch\nRUN true \\\n  && true\nRUN --mount=type=secret,id=x true\n",
    ),
    (
        "mount-key",
        "FROM scratch\nRUN --mount=type=cache,target=/x,sharng=locked true\n",
    ),
    (
        "mount-target",
        "FROM scratch\nRUN --mount=type=cache true\n",
    ),
    ("flag", "FROM scratch\nCOPY --form=a b c\n"),
    ("flag-not-supported", "FROM scratch\nCOPY --exclude=x . /\n"),
    ("copy-one", "FROM scratch\nCOPY alone\n"),
    ("copy-missing", "FROM scratch\nCOPY missing /\n"),
    (
        "copy-several",
        "FROM scratch\nCOPY <<A <<B /file\na\nA\nb\nB\n",
    ),
    ("chmod", "FROM scratch\nCOPY --chmod=u+x <<A /file\na\nA\n"),
    (
        "chown",
        "FROM scratch\nCOPY --chown=nobody <<A /file\na\nA\n",
    ),
    ("heredoc-open", "FROM scratch\nRUN <<EOF\necho\n"),
    ("quote", "FROM scratch\nENV A=1 \\\n    B=\"two\n"),
    ("variable", "FROM scratch\nLABEL a=${A#x}\n"),
    ("env-no-value", "FROM scratch\nENV A=1 B\n"),
    ("shell-form", "FROM scratch\nSHELL /bin/sh -c\n"),
];

#[test]
fn each_wrong_containerfile_has_its_error() {
    let place = Place::new();
    let goldens = root().join("tests/fixtures/containerfiles");
    let write = std::env::var_os("REGATTA_GOLDEN").is_some_and(|value| value == "write");
    let mut wrong = Vec::new();
    for (name, text) in WRONG {
        let error = place.build(text).expect_err(name);
        let found = error.replace(&place.data.path().display().to_string(), "DIR") + "\n";
        let path = goldens.join(format!("{name}.txt"));
        let found = format!("{text}---\n{found}");
        if write {
            fs::create_dir_all(&goldens).unwrap();
            fs::write(&path, &found).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if expected != found {
            wrong.push(format!(
                "{}:\n{found}\nexpected:\n{expected}",
                path.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_text_makes_the_parser_panic() {
    // Every prefix and every single deletion of a file with all instructions.
    let text = "# escape=`\nARG A=${B:-x}\nFROM --platform=$TARGETPLATFORM a AS b\nRUN --mount=type=cache,target=/x <<E\nx\nE\nCOPY --from=b --chown=1:2 [\"a\", \"b\"]\nENV A=\"b c\" D='$e' `\n  F=${G:?h}\nCMD [\"é\", 1]\n";
    for (at, _) in text.char_indices() {
        let _ = build::check(&text[..at], "f");
        let mut without = text.to_owned();
        without.remove(at);
        let _ = build::check(&without, "f");
        for extra in ["\"", "$", "${", "\\", "\n", "<<", "\0", "é", "[", "="] {
            let mut with = text.to_owned();
            with.insert_str(at, extra);
            if let Err(error) = build::check(&with, "f") {
                assert!(error.line >= 1 && error.column >= 1);
                assert!(!error.to_string().is_empty());
            }
        }
    }
}
