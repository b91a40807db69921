//! The commits of a repository as an axis: in the order of first parents, each with its own files, exactly as they were
//! committed; and nothing that a repository names is run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use regatta_tests::busybox;
use regatta_tests::command::{Data, Done};

/// A repository, gone with its data directory.
struct Repo {
    path: PathBuf,
}

impl Repo {
    fn new(data: &Data) -> Self {
        let path = data.path().join("files/repo");
        std::fs::create_dir_all(&path).unwrap();
        let repo = Self { path };
        repo.git(&["init", "--quiet", "--initial-branch=main"]);
        repo
    }

    /// Git in it, with nothing of whoever runs the tests.
    fn git(&self, arguments: &[&str]) -> String {
        self.git_with(arguments, "")
    }

    fn git_with(&self, arguments: &[&str], input: &str) -> String {
        use std::io::Write as _;
        let mut git = Command::new("git");
        git.arg("-C").arg(&self.path).args(arguments);
        for (name, value) in [
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_AUTHOR_NAME", "A. Sailor"),
            ("GIT_AUTHOR_EMAIL", "sailor@example.org"),
            ("GIT_COMMITTER_NAME", "A. Sailor"),
            ("GIT_COMMITTER_EMAIL", "sailor@example.org"),
        ] {
            git.env(name, value);
        }
        let git = git.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut git = git.spawn().unwrap();
        let mut stdin = git.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        let output = git.wait_with_output().unwrap();
        assert!(output.status.success(), "git {arguments:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Commits all that is there; gives the hash as an axis has it.
    fn commit(&self, subject: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", subject]);
        self.hash("HEAD")
    }

    fn hash(&self, revision: &str) -> String {
        self.git(&["rev-parse", "--short=12", revision])
    }
}

fn ready() -> (Data, Repo) {
    regatta_tests::need_root();
    let data = Data::new();
    busybox::import(&data);
    let repo = Repo::new(&data);
    (data, repo)
}

/// A matrix over a range; `test` is run in the commit's files.
fn matrix(data: &Data, range: &str, test: &str) -> PathBuf {
    let text = format!(
        "name: boat\nimage: busybox\naxes:\n  commit: {{git: ./repo, range: {range}}}\n\
         files: [{{checkout: commit, to: /src}}]\n\
         test: {{run: {}, workdir: /src}}\ncompare: {{axis: commit, baseline: previous}}\n",
        serde_json::to_string(test).unwrap()
    );
    data.file("matrix.yaml", &text)
}

fn check(data: &Data, range: &str, status: i32) -> Done {
    let file = matrix(data, range, "true");
    data.run(["check", file.to_str().unwrap()]).expect(status)
}

/// Thirteen commits along first parents. The seventh is a merge; on its side the boat leaks for a while. The tenth breaks the
/// sail for good. What is not committed would break all.
fn boat(repo: &Repo) -> Vec<String> {
    repo.write(
        "test.sh",
        "bad=\n[ $(cat sail) = whole ] || bad='<failure message=\"torn\"/>'\n\
         [ ! -e leak ] || bad='<failure message=\"leaks\"/>'\n\
         echo \"<testsuite><testcase name=\\\"sail\\\">$bad</testcase></testsuite>\" > $REGATTA_RESULTS/r.xml\n\
         [ -z \"$bad\" ]\n",
    );
    repo.write("sail", "whole\n");
    let mut line = vec![repo.commit("Build the boat")];
    repo.git(&["tag", "built"]);
    for n in 2..=4 {
        line.push(repo.commit(&format!("Paint it for the {n}th time")));
    }
    repo.git(&["checkout", "--quiet", "-b", "side"]);
    repo.write("leak", "");
    repo.commit("Drill a hole");
    std::fs::remove_file(repo.path.join("leak")).unwrap();
    repo.commit("Stop the hole");
    repo.git(&["tag", "aside"]);
    repo.git(&["checkout", "--quiet", "main"]);
    for n in 5..=6 {
        line.push(repo.commit(&format!("Paint it for the {n}th time")));
    }
    repo.git(&[
        "merge",
        "--quiet",
        "--no-ff",
        "--message",
        "Merge the other side",
        "side",
    ]);
    line.push(repo.hash("HEAD"));
    for n in 8..=9 {
        line.push(repo.commit(&format!("Paint it for the {n}th time")));
    }
    repo.write("sail", "torn\n");
    line.push(repo.commit("Reef \"early\" <b> & |often|"));
    for n in 11..=13 {
        line.push(repo.commit(&format!("Paint it for the {n}th time")));
    }
    repo.git(&["tag", "painted"]);
    repo.write("sail", "left behind\n");
    repo.git(&["add", "sail"]);
    repo.write("leak", "");
    line
}

#[test]
fn the_commit_that_broke_a_test_is_named_with_its_subject() {
    let (data, repo) = ready();
    let line = boat(&repo);
    let before = repo.git(&["status", "--porcelain=v2", "--branch"]);
    let file = matrix(&data, "built..painted", "sh test.sh");
    let file = file.to_str().unwrap();

    let checked = data.run(["check", file, "--json"]).expect(0).json();
    assert_eq!(checked["axes"][0]["values"], serde_json::json!(line));
    assert_eq!(
        checked["axes"][0]["titles"][&line[6]],
        "Merge the other side"
    );
    let shown = data.run(["check", file]).expect(0).out;
    assert!(
        shown.contains(&format!("{}  Build the boat", line[0])),
        "{shown}"
    );

    let html = data.path().join("report.html");
    let markdown = data.path().join("report.md");
    let to = |format: &str, path: &Path| format!("{format}={}", path.display());
    let (one, other) = (to("html", &html), to("markdown", &markdown));
    let report = data
        .run(["run", file, "--json", "--report", &one, "--report", &other])
        .expect(1)
        .json();
    assert_eq!(report["conclusion"], "regressed", "{report}");
    let verdicts = report["cells"].as_array().unwrap().iter();
    let verdicts: Vec<_> = verdicts
        .map(|cell| cell["verdict"].as_str().unwrap())
        .collect();
    assert_eq!(verdicts, [vec!["passed"; 9], vec!["failed"; 4]].concat());
    let finding = &report["findings"][0];
    assert_eq!(
        (
            &finding["kind"],
            &finding["case"],
            &finding["last_good"],
            &finding["first_bad"]
        ),
        (
            &"regression".into(),
            &"sail".into(),
            &line[8].as_str().into(),
            &line[9].as_str().into()
        )
    );
    let told = format!(
        "Commit {} (\"Reef \"early\" <b> & |often|\") broke sail; last good: {} (\"Paint it for the 9th time\")",
        line[9], line[8]
    );
    assert_eq!(finding["text"], told);
    let text = data.run(["report", "last"]).expect(0).out;
    assert!(text.contains(&told), "{text}");
    let html = std::fs::read_to_string(html).unwrap();
    assert!(html.contains("&lt;b&gt; &amp; |often|") && !html.contains("<b> &"));
    let markdown = std::fs::read_to_string(markdown).unwrap();
    let named = markdown.contains("Reef") && markdown.contains(&line[9]);
    assert!(named && !markdown.contains("<b>"), "{markdown}");

    // Once more without the repository: all that was tested is kept.
    std::fs::rename(&repo.path, data.path().join("moved")).unwrap();
    data.run(["repro", "last", "9"]).expect(1);
    std::fs::rename(data.path().join("moved"), &repo.path).unwrap();
    assert_eq!(repo.git(&["status", "--porcelain=v2", "--branch"]), before);
}

#[test]
fn bisect_looks_between_the_commits_that_every_leaves_out() {
    let (data, repo) = ready();
    let line = boat(&repo);
    let file = matrix(&data, "built..painted, every: 5", "sh test.sh");
    let file = file.to_str().unwrap();
    let checked = data.run(["check", file, "--json"]).expect(0).json();
    let few = [&line[0], &line[5], &line[10], &line[12]];
    assert_eq!(checked["axes"][0]["values"], serde_json::json!(few));
    let found = data
        .run(["bisect", file, "--axis", "commit", "--json"])
        .expect(1)
        .json();
    assert_eq!(
        (&found["result"], &found["last_good"], &found["first_bad"]),
        (
            &"found".into(),
            &line[8].as_str().into(),
            &line[9].as_str().into()
        ),
        "{found}"
    );
    let text = found["text"].as_str().unwrap();
    assert!(
        text.contains("Reef \"early\"") && text.contains("Paint it for the 9th time"),
        "{text}"
    );
}

#[test]
fn bisect_checks_out_only_what_it_tries() {
    let (data, repo) = ready();
    let commits: Vec<String> = (1..=24)
        .map(|n| {
            repo.write("leg", &format!("{n}\n"));
            repo.commit(&format!("Sail leg {n}"))
        })
        .collect();
    // The second one cannot be checked out.
    let lost = repo.git(&["rev-parse", &format!("{}:leg", commits[1])]);
    let lost = format!(".git/objects/{}/{}", &lost[..2], &lost[2..]);
    std::fs::remove_file(repo.path.join(lost)).unwrap();
    let range = format!("{}..", commits[0]);
    let file = matrix(&data, &range, "[ $(cat leg) -lt 20 ]");
    let file = file.to_str().unwrap();
    let told = data.run(["run", file]).expect(2).err;
    assert!(told.contains("is not in the repository"), "{told}");
    let found = data
        .run(["bisect", file, "--axis", "commit", "--json"])
        .expect(1)
        .json();
    assert_eq!(found["first_bad"], commits[19].as_str(), "{found}");
}

#[test]
fn files_are_as_they_were_committed_and_nothing_of_the_repository_is_run() {
    let (data, repo) = ready();
    let marker = data.path().join("ran");
    let run = format!("touch {}", marker.display());
    repo.commit("Begin");
    repo.write("new\nline \t\u{e6}", "two\n");
    repo.write("deep/er/run", "#!/bin/sh\necho ran\n");
    repo.write("k.sub", "$Format:%H$\n");
    repo.write("k.none", "kept\n");
    repo.write("k.crlf", "a\nb\n");
    repo.write("k.evil", "raw\n");
    repo.write(
        ".gitattributes",
        "*.sub export-subst\n*.none export-ignore\n*.crlf text eol=crlf\n*.evil filter=evil\n",
    );
    std::os::unix::fs::symlink("/etc/hostname", repo.path.join("out")).unwrap();
    std::os::unix::fs::symlink("../../../../../etc/shadow", repo.path.join("up")).unwrap();
    repo.git(&["add", "--all"]);
    repo.git(&["update-index", "--chmod=+x", "deep/er/run"]);
    repo.git(&[
        "commit",
        "--quiet",
        "--message",
        "Drop \u{1b}[31manchor\u{202e}",
    ]);
    let hooks = [
        "post-checkout",
        "reference-transaction",
        "post-index-change",
        "pre-auto-gc",
    ];
    for hook in hooks {
        repo.write(
            &format!(".git/hooks/{hook}"),
            &format!("#!/bin/sh\n{run}\n"),
        );
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(repo.path.join(".git/hooks").join(hook), executable).unwrap();
    }
    repo.write(".git/info/attributes", "* filter=evil\n");
    let settings: String = [
        ("filter \"evil\"", "smudge"),
        ("filter \"evil\"", "process"),
        ("core", "fsmonitor"),
        ("core", "pager"),
        ("core", "sshCommand"),
        ("diff", "external"),
        ("gpg", "program"),
    ]
    .iter()
    .map(|(section, key)| format!("[{section}]\n{key} = \"{run}; cat\"\n"))
    .collect();
    let config = repo.path.join(".git/config");
    let own = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, own + &settings + "[log]\nshowSignature = true\n").unwrap();
    // Somebody else's, and in the environment of a hook.
    let owned = Command::new("chown")
        .arg("-R")
        .arg("4321")
        .arg(&repo.path)
        .status();
    assert!(owned.unwrap().success());
    let test = "[ -e k.sub ] || exit 0; cat k.*; deep/er/run; cat new*; find . | wc -l; readlink out; cat up";
    let file = matrix(&data, "HEAD~1..", test);
    let mut command = data.command(["run", file.to_str().unwrap(), "--json"]);
    let done = Done::of(
        command
            .env("GIT_DIR", "/nowhere")
            .env("GIT_INDEX_FILE", "/nowhere"),
    );
    let report = done.expect(1).json();
    assert!(!marker.exists(), "the repository has run something");
    assert_eq!(report["cells"][0]["verdict"], "passed", "{report}");
    let titles = data.run(["check", file.to_str().unwrap()]).expect(0).out;
    assert!(
        titles.contains("Drop \u{fffd}[31manchor\u{fffd}"),
        "{titles}"
    );
    let log = data.run(["logs", "last", "1"]).expect(0).out;
    // The name on two lines counts twice.
    let begin = "a\nb\nraw\nkept\n$Format:%H$\nran\ntwo\n13\n/etc/hostname\n";
    assert!(log.starts_with(begin), "{log}");
    // The link leads nowhere in the container, and the test ends there.
    assert!(
        log.contains("can't open 'up'") && !log.contains("root:"),
        "{log}"
    );
}

#[test]
fn what_a_commit_only_names_is_said() {
    let (data, repo) = ready();
    repo.commit("Begin");
    repo.write(
        "big.bin",
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
    );
    repo.git(&["add", "--all"]);
    let gitlink = format!("160000,{},hull", "1".repeat(40));
    repo.git(&["update-index", "--add", "--cacheinfo", &gitlink]);
    repo.git(&["commit", "--quiet", "--message", "Borrow a hull"]);
    let test = "[ ! -e big.bin ] || [ -z \"$(ls -A hull)\" ]";
    let file = matrix(&data, "HEAD~1..HEAD", test);
    let said = data.run(["run", file.to_str().unwrap()]).expect(0).err;
    assert!(
        said.contains("up to 1 submodules, which are empty directories"),
        "{said}"
    );
    assert!(said.contains("up to 1 files that Git LFS keeps"), "{said}");
}

#[test]
fn a_tree_that_no_git_would_check_out_is_refused() {
    let (data, repo) = ready();
    repo.commit("Begin");
    repo.git(&["tag", "begin"]);
    let blob = repo.git_with(&["hash-object", "-w", "--stdin"], "evil");
    let commit = |tree: &str| {
        let commit = repo.git(&["commit-tree", tree, "-p", "begin", "-m", "Go overboard"]);
        repo.git(&["update-ref", "refs/heads/evil", &commit]);
        matrix(&data, "begin..evil", "true")
    };
    // Trees that git's own commands would not write.
    let entry = |mode: &str, name: &str, hash: &str| {
        let hash = (0..40)
            .step_by(2)
            .map(|at| u8::from_str_radix(&hash[at..at + 2], 16).unwrap());
        [format!("{mode} {name}\0").into_bytes(), hash.collect()].concat()
    };
    let raw = |entries: &[Vec<u8>]| {
        let path = data.path().join("tree");
        std::fs::write(&path, entries.concat()).unwrap();
        let path = path.to_str().unwrap();
        repo.git(&["hash-object", "-t", "tree", "-w", "--literally", path])
    };
    let evil = raw(&[entry("100644", "evil", &blob)]);
    let file = commit(&raw(&[entry("40000", "..", &evil)]));
    let told = data.run(["run", file.to_str().unwrap()]).expect(2).err;
    assert!(told.contains("its name contains \"..\""), "{told}");

    // A link that leads out, and a directory of the same name.
    let outside = data.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let link = repo.git_with(&["hash-object", "-w", "--stdin"], outside.to_str().unwrap());
    let file = commit(&raw(&[
        entry("120000", "a", &link),
        entry("40000", "a", &evil),
    ]));
    data.run(["run", file.to_str().unwrap()]).expect(0);
    assert_eq!(
        std::fs::read_dir(&outside).unwrap().count(),
        0,
        "a file was written through a link"
    );

    let missing = format!("100644 blob {}\tgone\n", "2".repeat(40));
    let file = commit(&repo.git_with(&["mktree", "--missing"], &missing));
    let told = data.run(["run", file.to_str().unwrap()]).expect(2).err;
    assert!(
        told.contains("\"gone\"") && told.contains("is not in the repository"),
        "{told}"
    );

    let many: String = (0..30)
        .map(|n| format!("100644 blob {blob}\tf{n}\n"))
        .collect();
    let file = commit(&repo.git_with(&["mktree"], &many));
    let mut command = data.command(["run", file.to_str().unwrap()]);
    let told = Done::of(command.env("REGATTA_UNPACK_ENTRIES", "29"))
        .expect(2)
        .err;
    assert!(told.contains("limit unpack.entries of 29"), "{told}");
}

#[test]
fn a_range_that_is_none_is_told_with_its_place() {
    let (data, repo) = ready();
    boat(&repo);
    let wrong = |range: &str, column: usize, told: &str| {
        let done = check(&data, range, 2);
        let place = format!("matrix.yaml:4:{column}");
        assert!(
            done.err.contains(told) && done.err.contains(&place),
            "{range}:\n{}",
            done.err
        );
        done.err
    };
    wrong("keel..painted", 32, "has no commit `keel`");
    wrong("built..keel", 39, "has no commit `keel`");
    wrong("--all..painted", 32, "has no commit `--all`");
    wrong(
        "built..--output=/tmp/regatta-test",
        39,
        "has no commit `--output=/tmp/regatta-test`",
    );
    wrong("painted..built", 32, "is empty: it ends before it begins");
    wrong(
        "built..built",
        32,
        "is empty: both ends are the same commit",
    );
    let told = wrong(
        "aside..painted",
        32,
        "`aside` is not on the way from `painted` back",
    );
    assert!(told.contains("came in by a merge"), "{told}");
    let tree = repo.git(&["write-tree"]);
    let other = repo.git(&["commit-tree", &tree, "-m", "Another boat"]);
    repo.git(&["tag", "other", &other]);
    let told = wrong(
        "other..painted",
        32,
        "`other` is not on the way from `painted` back",
    );
    assert!(told.contains("does not descend from it"), "{told}");

    // 260 commits, of which every second one fits.
    let mut stream = String::new();
    for n in 1..=260 {
        let from = if n == 1 {
            String::new()
        } else {
            format!("from :{}\n", n - 1)
        };
        stream += &format!(
            "commit refs/heads/long\nmark :{n}\ncommitter A <a@b> {n} +0000\ndata 3\nOar\n{from}\n"
        );
    }
    stream += "reset refs/tags/first\nfrom :1\n";
    repo.git_with(&["fast-import", "--quiet"], &stream);
    let told = wrong(
        "first..long",
        32,
        "gives 260 commits, more than 256 (limit COMMITS_MOST)",
    );
    assert!(told.contains("`every: 2`"), "{told}");
    let shown = check(&data, "'first..long', every: 2", 0).out;
    assert!(shown.contains("131 values (ordered)"), "{shown}");
}

#[test]
fn a_repository_that_is_none_is_told_with_its_place() {
    let (data, repo) = ready();
    boat(&repo);
    let wrong = |path: &str, told: &str| {
        let file = matrix(&data, "built..painted", "true");
        let text = std::fs::read_to_string(&file)
            .unwrap()
            .replace("./repo", path);
        std::fs::write(&file, text).unwrap();
        let done = data.run(["check", file.to_str().unwrap()]).expect(2);
        assert!(
            done.err.contains(told) && done.err.contains("matrix.yaml:4:17"),
            "{}",
            done.err
        );
        done.err
    };
    wrong("./ship", "cannot find the repository `./ship`");
    wrong("./repo/sail", "`./repo/sail` is no git repository");
    // Part of one is not it.
    repo.write("inner/file", "");
    wrong("./repo/inner", "`./repo/inner` is no git repository");

    let origin = format!("file://{}", repo.path.display());
    let shallow = repo.path.with_file_name("shallow");
    repo.git(&[
        "clone",
        "--quiet",
        "--depth=3",
        &origin,
        shallow.to_str().unwrap(),
    ]);
    let file = matrix(&data, "HEAD~6..HEAD", "true");
    let text = std::fs::read_to_string(&file)
        .unwrap()
        .replace("./repo", "./shallow");
    std::fs::write(&file, text).unwrap();
    let told = data.run(["check", file.to_str().unwrap()]).expect(2).err;
    assert!(told.contains("fetch --unshallow"), "{told}");

    let file = matrix(&data, "built..painted", "true");
    let mut command = data.command(["check", file.to_str().unwrap()]);
    let told = Done::of(command.env("PATH", "/nowhere")).expect(2).err;
    assert!(
        told.contains("git, which is not installed") && told.contains("apt-get install git"),
        "{told}"
    );
}
