//! The cache: what is found again, what makes a step anew, and equal builds. May not: measure time.

use std::fs;

use regatta_image::build::BuildOptions;
use regatta_model::Digest;

use crate::place::Place;

const TEN: &str = "FROM busybox\n\
    ARG A=1\n\
    RUN echo one > /one\n\
    COPY src /src\n\
    RUN cat /src/file > /two\n\
    WORKDIR /place\n\
    ENV E=1\n\
    RUN echo $E $A > three\n\
    COPY other /other\n\
    RUN rm /one\n\
    RUN true\n\
    RUN echo four > /four\n\
    RUN echo five > /five\n\
    COPY other /place/\n";

/// With fixed times, so that what a command makes again is the same.
fn fixed(place: &Place, text: &str) -> BuildOptions<'static> {
    let mut options = place.options(text);
    options.epoch = Some(1_600_000_000);
    options
}

fn build(place: &Place, text: &str) -> Digest {
    place.build_with(&fixed(place, text)).unwrap()
}

fn place() -> Place {
    let place = Place::with_busybox();
    place.file("src/file", "content\n");
    place.file("other", "other");
    place
}

#[test]
fn an_unchanged_build_carries_nothing_out() {
    let place = place();
    let first = build(&place, TEN);
    assert_eq!(place.steps(), (11, 0));
    let second = build(&place, TEN);
    assert_eq!(place.steps(), (0, 11), "{:?}", place.said());
    assert_eq!(first, second);
    let tree = place.tree(&second);
    assert_eq!(tree["/two"], "content\n 644 0:0");
    assert_eq!(tree["/place/three"], "1 1\n 644 0:0");
    assert!(!tree.contains_key("/one"));
    let config = place.config(&second);
    let history = config["history"].as_array().unwrap();
    let empty = history
        .iter()
        .filter(|step| step["empty_layer"] == true)
        .count();
    let layers = config["rootfs"]["diff_ids"].as_array().unwrap().len();
    assert_eq!(
        history.len() - empty,
        layers,
        "`RUN true` makes no layer: {history:?}"
    );
}

#[test]
fn what_a_step_depends_on_makes_it_anew() {
    let place = place();
    build(&place, TEN);
    // Times alone change nothing.
    place.file("src/file", "content\n");
    let old = fs::File::options()
        .write(true)
        .open(place.context().join("src/file"))
        .unwrap();
    old.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    build(&place, TEN);
    assert_eq!(place.steps(), (0, 11));
    place.file("other", "changed");
    build(&place, TEN);
    assert_eq!(
        place.steps(),
        (6, 5),
        "from the first COPY of it on: {:?}",
        place.said()
    );
    let mut options = fixed(&place, TEN);
    options.args.insert("A".into(), "2".into());
    place.build_with(&options).unwrap();
    assert_eq!(
        place.steps(),
        (9, 2),
        "an ARG is in the environment of every RUN; what makes the same again changes nothing above it"
    );
    build(&place, &TEN.replace("E=1", "E=2"));
    assert_eq!(place.steps(), (7, 4));
    crate::place::set_mode(&place.context().join("src/file"), 0o600);
    build(&place, TEN);
    assert_eq!(place.steps().1, 1, "a mode counts");
    let mut options = fixed(&place, TEN);
    options.no_cache = true;
    place.build_with(&options).unwrap();
    assert_eq!(place.steps(), (11, 0));
}

#[test]
fn what_prune_removed_is_made_again() {
    let place = place();
    build(&place, TEN);
    place.store.prune().unwrap();
    let records = fs::read_dir(place.store.directory().join("build-cache"))
        .unwrap()
        .count();
    assert_eq!(
        records, 1,
        "only the record of the step that made no layer is left"
    );
    let image = build(&place, TEN);
    assert_eq!(place.steps(), (10, 1), "{:?}", place.said());
    assert_eq!(place.tree(&image)["/four"], "four\n 644 0:0");
    // A named image keeps its layers, and so the records.
    place.store.tag("kept", &image).unwrap();
    place.store.prune().unwrap();
    build(&place, TEN);
    assert_eq!(place.steps(), (0, 11));
}

#[test]
fn equal_builds_have_equal_digests() {
    let one = place();
    let other = place();
    assert_eq!(
        build(&one, TEN),
        build(&other, TEN),
        "two stores, contexts, executors"
    );
    let digest = build(&one, TEN);
    let mut options = fixed(&one, TEN);
    options.no_cache = true;
    assert_eq!(one.build_with(&options).unwrap(), digest);
    assert_eq!(one.config(&digest)["created"], "2020-09-13T12:26:40Z");
}

#[test]
fn several_builds_at_once_share_one_store() {
    let place = place();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let place = &place;
            scope.spawn(move || {
                let mut options = fixed(place, "");
                options.file = place.data.path().join(format!("Containerfile.{n}"));
                fs::write(&options.file, format!("{TEN}RUN echo {} > /last\n", n % 2)).unwrap();
                options.tags = vec![format!("image:{n}")];
                place.build_with(&options).unwrap();
            });
        }
    });
    for n in 0..4 {
        let image = place.store.resolve(&format!("image:{n}")).unwrap();
        assert_eq!(place.tree(&image)["/last"], format!("{}\n 644 0:0", n % 2));
    }
}
