//! Processes that die in the middle, and several at once. May not: wait for a time to pass where a
//! condition can be asked for; the moments of death are random on purpose.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use regatta_image::{Silent, Store};

use crate::merge::image;
use crate::place::{Place, tree};
use crate::tars::{dir, file, tar};

/// Where the child finds the store, and the name of the image.
const STORE: &str = "REGATTA_TEST_STORE";

/// What the other processes of these tests do; nothing unless it is asked for.
#[test]
fn child() {
    let Some(store) = std::env::var_os(STORE) else {
        return;
    };
    let store = Store::open(store.as_ref()).unwrap();
    let digest = store.resolve("big").unwrap();
    store.unpack(&digest).unwrap();
}

fn start(place: &Place) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["crash::child", "--exact"])
        .env(STORE, place.store.directory())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// An image of 600 files in two layers, named `big`, not unpacked.
fn big(place: &Place) {
    let layer = |letter: char| {
        let mut heads = vec![dir("d")];
        heads.extend((0..300).map(|number| file(format!("d/{letter}{number}"), vec![b'x'; 3_000])));
        tar(&heads)
    };
    let loaded = place
        .store
        .load(image(&[layer('a'), layer('b')]).as_slice(), &Silent)
        .unwrap();
    place.store.tag("big", &loaded[0].digest).unwrap();
    forget_layers(place);
}

fn forget_layers(place: &Place) {
    for layer in std::fs::read_dir(place.path("store/layers")).unwrap() {
        std::fs::remove_dir_all(layer.unwrap().path()).unwrap();
    }
}

#[test]
fn killed_at_any_moment_no_half_layer_counts() {
    let place = Place::new();
    big(&place);
    let before = place.content();
    let began = Instant::now();
    assert!(start(&place).wait().unwrap().success());
    let whole = began.elapsed();
    let after = place.content();
    assert!(after.len() > before.len() + 600);
    let mut seen = std::collections::BTreeSet::new();
    for part in 0..12 {
        forget_layers(&place);
        let mut child = start(&place);
        std::thread::sleep(whole * part / 11 + Duration::from_micros(u64::from(part) * 731));
        child.kill().unwrap();
        child.wait().unwrap();
        // The next to open sweeps; what is there then is whole.
        let store = Store::open(place.store.directory()).unwrap();
        drop(store);
        let left: Vec<_> = std::fs::read_dir(place.path("store/tmp"))
            .unwrap()
            .collect();
        assert_eq!(left.len(), 2, "only this process's own: {left:?}");
        let layers = tree(&place.path("store"), "layers");
        for (path, what) in &layers {
            assert_eq!(
                Some(what),
                after.get(path),
                "{path} is not as in a whole layer"
            );
        }
        let dirs = std::fs::read_dir(place.path("store/layers"))
            .unwrap()
            .count();
        let expected = after
            .keys()
            .filter(|path| path.starts_with("layers/"))
            .count();
        assert!(
            [0, 1, 2].contains(&dirs) && (dirs < 2 || layers.len() == expected + 1),
            "{dirs}"
        );
        seen.insert(dirs);
        let digest = place.store.resolve("big").unwrap();
        assert_eq!(place.store.unpack(&digest).unwrap().len(), 2);
        assert_eq!(place.content(), after);
    }
    assert!(
        seen.contains(&0),
        "no moment of death was before the first layer was whole: {seen:?}"
    );
}

#[test]
fn several_processes_unpack_one_image_at_once() {
    let place = Place::new();
    big(&place);
    let mut children: Vec<_> = (0..4).map(|_| start(&place)).collect();
    let digest = place.store.resolve("big").unwrap();
    let layers = place.store.unpack(&digest).unwrap();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(layers.len(), 2);
    assert_eq!(tree(&layers[0], "").len(), 302);
    assert_eq!(
        place
            .content()
            .keys()
            .filter(|path| path.ends_with("layer.json"))
            .count(),
        2
    );
}

#[test]
fn names_given_at_once_are_all_kept() {
    let place = Place::new();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let place = &place;
            scope.spawn(move || {
                let store = Store::open(place.store.directory()).unwrap();
                let tar = tar(&[file("x", format!("{number}"))]);
                let options = regatta_image::archive::Import::default();
                store
                    .import(
                        tar.as_slice(),
                        &format!("image:{number}"),
                        &options,
                        &Silent,
                    )
                    .unwrap();
            });
        }
    });
    assert_eq!(place.store.list().unwrap().len(), 8);
}
