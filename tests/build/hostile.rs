//! Contexts and images that try to make a build read or write elsewhere. May not: leave the canary changed.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::place::Place;

fn canary(place: &Place) -> std::path::PathBuf {
    let outside = place.data.path().join("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("canary"), "secret").unwrap();
    outside
}

#[test]
fn links_that_lead_out_of_the_context_are_copied_as_links() {
    let place = Place::new();
    let outside = canary(&place);
    let out = outside.join("canary");
    symlink(&out, place.context().join("absolute")).unwrap();
    symlink("../outside/canary", place.context().join("relative")).unwrap();
    symlink(&outside, place.context().join("dir")).unwrap();
    place.file("inside", "fine");
    symlink("inside", place.context().join("good")).unwrap();
    let image = place
        .build("FROM scratch\nCOPY . /all/\nCOPY absolute relative good /named/\n")
        .unwrap();
    let tree = place.tree(&image);
    assert_eq!(
        tree["/all/absolute"],
        format!("-> {} 777 0:0", out.display())
    );
    assert_eq!(tree["/all/relative"], "-> ../outside/canary 777 0:0");
    assert_eq!(
        tree["/all/dir"],
        format!("-> {} 777 0:0", outside.display())
    );
    assert_eq!(
        tree["/named/absolute"],
        format!("-> {} 777 0:0", out.display())
    );
    assert_eq!(
        tree["/named/good"], "fine 644 0:0",
        "a link inside the context is followed"
    );
    assert!(!tree.values().any(|what| what.contains("secret")));
    for source in [
        "dir/canary",
        "../outside/canary",
        "/../outside/canary",
        "dir/*",
    ] {
        let error = place
            .build(&format!("FROM scratch\nCOPY {source} /x\n"))
            .unwrap_err();
        assert!(
            error.contains("is not in the build context"),
            "{source}: {error}"
        );
    }
}

#[test]
fn a_directory_that_is_swapped_for_a_link_while_it_is_copied_leads_nowhere() {
    let place = Place::new();
    let outside = canary(&place);
    for number in 0..50 {
        place.file(&format!("sub/dir/{number}"), "fine");
    }
    symlink(&outside, place.context().join("link")).unwrap();
    fs::write(outside.join("0"), "secret").unwrap();
    let done = AtomicBool::new(false);
    let (dir, link) = (
        place.context().join("sub/dir"),
        place.context().join("link"),
    );
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                renameat_with(CWD, &dir, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let mut built = 0;
        for _ in 0..60 {
            let mut options = place.options("FROM scratch\nCOPY sub /sub\n");
            options.no_cache = true;
            // Some builds notice that the files moved under them; none may see what is outside.
            if let Ok(image) = place.build_with(&options) {
                built += 1;
                let tree = place.tree(&image);
                assert!(
                    !tree.values().any(|what| what.contains("secret")),
                    "{tree:?}"
                );
            }
        }
        done.store(true, Ordering::Relaxed);
        assert!(built > 0);
    });
    assert_eq!(
        fs::read_to_string(outside.join("canary")).unwrap(),
        "secret"
    );
}

#[test]
fn links_of_an_image_do_not_lead_a_copy_out_of_it() {
    let place = Place::new();
    let outside = canary(&place);
    symlink(&outside, place.context().join("door")).unwrap();
    place.file("x", "x");
    // The image's own /door names a directory of this host.
    let image = place
        .build("FROM scratch\nCOPY door /\nCOPY x /door/x\n")
        .unwrap();
    let tree = place.tree(&image);
    let inside = format!("{}/x", outside.display());
    assert_eq!(
        tree[&inside], "x 644 0:0",
        "the link is followed within the image"
    );
    assert!(!outside.join("x").exists());
    let error = place
        .build("FROM scratch AS a\nCOPY door /\nFROM scratch\nCOPY --from=a /door/canary /x\n")
        .unwrap_err();
    assert!(error.contains("is not in that image"), "{error}");
}
