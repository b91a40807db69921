//! Three random layers, in a random order of entries: what overlay shows of them, as root and in a user
//! namespace, and what our own merged view says, against a model of OCI's rules. May not: share code with
//! what is tested.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use regatta_image::{Found, Merged, Silent};
use regatta_model::Digest;
use serde_json::json;

use crate::place::{Place, run};
use crate::tars::{Head, dir, file, symlink, tar};

/// What a layer says of a name.
#[derive(Clone, Debug)]
enum Item {
    File(u8),
    Link(u8),
    Whiteout,
    Directory {
        /// Permissions, where it has an entry of its own; else it is only implied.
        entry: Option<u32>,
        opaque: bool,
        /// Whether the layer also removes what was there before.
        replaced: bool,
        children: BTreeMap<&'static str, Item>,
    },
}

/// What is there.
#[derive(Clone, Debug)]
enum Node {
    File(u8),
    Link(u8),
    Directory(u32, BTreeMap<&'static str, Node>),
}

fn names(
    item: impl Strategy<Value = Item> + Clone + 'static,
) -> BoxedStrategy<BTreeMap<&'static str, Item>> {
    proptest::collection::btree_map(prop_oneof![Just("a"), Just("b"), Just("c")], item, 0..4)
        .boxed()
}

fn layer() -> BoxedStrategy<(BTreeMap<&'static str, Item>, Vec<Head>)> {
    let leaf = prop_oneof![
        any::<u8>().prop_map(Item::File),
        any::<u8>().prop_map(Item::Link),
        Just(Item::Whiteout)
    ];
    let item = leaf.prop_recursive(3, 24, 4, |item| {
        let entry = prop_oneof![Just(None), Just(Some(0o755)), Just(Some(0o711))];
        (
            entry,
            proptest::bool::weighted(0.2),
            proptest::bool::weighted(0.2),
            names(item.boxed()),
        )
            .prop_map(|(entry, opaque, replaced, children)| Item::Directory {
                entry,
                opaque,
                replaced,
                children,
            })
    });
    names(item.boxed())
        .prop_flat_map(|items| {
            let mut heads = Vec::new();
            emit("", &items, &mut heads);
            (Just(items), Just(heads).prop_shuffle())
        })
        .boxed()
}

fn emit(at: &str, items: &BTreeMap<&'static str, Item>, heads: &mut Vec<Head>) {
    for (name, item) in items {
        let path = format!("{at}{name}");
        match item {
            Item::File(content) => heads.push(file(path, format!("{content}\n"))),
            Item::Link(target) => heads.push(symlink(path, format!("to{target}"))),
            Item::Whiteout => heads.push(file(format!("{at}.wh.{name}"), "")),
            Item::Directory {
                entry,
                opaque,
                replaced,
                children,
            } => {
                if let Some(mode) = entry {
                    heads.push(dir(&path).mode(*mode));
                }
                if *opaque {
                    heads.push(file(format!("{path}/.wh..wh..opq"), ""));
                }
                if *replaced {
                    heads.push(file(format!("{at}.wh.{name}"), ""));
                }
                emit(&format!("{path}/"), children, heads);
            }
        }
    }
}

/// Whether an item has any entry that makes its directory exist.
fn exists(item: &Item) -> bool {
    match item {
        Item::Directory {
            entry,
            opaque,
            children,
            ..
        } => entry.is_some() || *opaque || children.values().any(says_something),
        _ => true,
    }
}

fn says_something(item: &Item) -> bool {
    exists(item) || matches!(item, Item::Directory { replaced: true, .. })
}

fn apply(below: Option<Node>, item: &Item) -> Option<Node> {
    match item {
        Item::File(content) => Some(Node::File(*content)),
        Item::Link(target) => Some(Node::Link(*target)),
        Item::Whiteout => None,
        Item::Directory {
            entry,
            opaque,
            replaced,
            children,
        } => {
            let below = if *replaced { None } else { below };
            if !exists(item) {
                return below;
            }
            let (mode, mut nodes) = match below {
                Some(Node::Directory(mode, nodes)) => (entry.unwrap_or(mode), nodes),
                _ => (entry.unwrap_or(0o755), BTreeMap::new()),
            };
            if *opaque {
                nodes.clear();
            }
            apply_all(&mut nodes, children);
            Some(Node::Directory(mode, nodes))
        }
    }
}

fn apply_all(nodes: &mut BTreeMap<&'static str, Node>, items: &BTreeMap<&'static str, Item>) {
    for (name, item) in items {
        let below = nodes.remove(name);
        if let Some(node) = apply(below, item) {
            nodes.insert(name, node);
        }
    }
}

fn lines(at: &str, nodes: &BTreeMap<&'static str, Node>, lines: &mut Vec<String>) {
    for (name, node) in nodes {
        let path = format!("{at}{name}");
        match node {
            Node::File(content) => lines.push(format!("{path} f 644 {content}")),
            Node::Link(target) => lines.push(format!("{path} l 777 to{target}")),
            Node::Directory(mode, inner) => {
                lines.push(format!("{path} d {mode:o} "));
                self::lines(&format!("{path}/"), inner, lines);
            }
        }
    }
}

/// What overlay shows; names that only a listing has (whiteouts of nothing) do not count.
fn overlay(layers: &[PathBuf], at: &Path, in_user_namespace: bool) -> Vec<String> {
    let lower: Vec<_> = layers
        .iter()
        .rev()
        .map(|path| path.to_str().unwrap())
        .collect();
    let script = format!(
        "mount -t overlay overlay -o {}lowerdir={}:{} {at} && cd {at} && \
         find . -mindepth 1 2>/dev/null | sed 's,^[.]/,,' | while read -r path; do \
           [ -e \"$path\" ] || [ -L \"$path\" ] || continue; \
           kind=$(stat -c %F \"$path\"); mode=$(stat -c %a \"$path\"); \
           case $kind in directory) echo \"$path d $mode \";; 'symbolic link') echo \"$path l $mode $(readlink \"$path\")\";; \
             *) echo \"$path f $mode $(cat \"$path\")\";; esac; done",
        if in_user_namespace { "userxattr," } else { "" },
        lower.join(":"),
        at.join("../empty").to_str().unwrap(),
        at = at.to_str().unwrap(),
    );
    let mut arguments = vec!["--mount"];
    if in_user_namespace {
        arguments.extend(["--user", "--map-root-user"]);
    }
    arguments.extend(["sh", "-ec", &script]);
    let mut lines: Vec<_> = run("unshare", &arguments)
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

/// What our own merged view shows.
fn merged(at: &str, found: &Found, lines: &mut Vec<String>) {
    for (name, found) in found.entries().unwrap() {
        let path = format!("{at}{}", String::from_utf8(name).unwrap());
        let mode = found.mode();
        match found.kind() {
            rustix::fs::FileType::Directory => {
                lines.push(format!("{path} d {mode:o} "));
                merged(&format!("{path}/"), &found, lines);
            }
            rustix::fs::FileType::Symlink => {
                let target = String::from_utf8(found.link_target().unwrap()).unwrap();
                lines.push(format!("{path} l {mode:o} {target}"));
            }
            _ => {
                let content = std::io::read_to_string(found.open_file().unwrap()).unwrap();
                lines.push(format!("{path} f {mode:o} {}", content.trim_end()));
            }
        }
    }
}

/// An OCI archive of an image with these layers.
pub fn image(layers: &[Vec<u8>]) -> Vec<u8> {
    let digests: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let config = json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": digests}}).to_string();
    let descriptors: Vec<_> = layers
        .iter()
        .map(|layer| json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": Digest::of(layer), "size": layer.len()}))
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::of(config.as_bytes()), "size": config.len()},
        "layers": descriptors,
    })
    .to_string();
    let index = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": Digest::of(manifest.as_bytes()),
        "size": manifest.len(),
    }]});
    let mut blobs: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for bytes in layers
        .iter()
        .cloned()
        .chain([config.into_bytes(), manifest.into_bytes()])
    {
        blobs.insert(format!("blobs/sha256/{}", Digest::of(&bytes).hex()), bytes);
    }
    let mut heads = vec![file("index.json", index.to_string())];
    heads.extend(blobs.into_iter().map(|(name, bytes)| file(name, bytes)));
    tar(&heads)
}

#[test]
fn three_random_layers_merge_as_oci_says() {
    let place = Place::new();
    let at = place.path("merged");
    for name in ["merged", "empty"] {
        std::fs::create_dir(place.path(name)).unwrap();
    }
    let config = Config {
        cases: 40,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    runner
        .run(&[layer(), layer(), layer()], |layers| {
            let mut model = BTreeMap::new();
            layers
                .iter()
                .for_each(|(items, _)| apply_all(&mut model, items));
            let mut wanted = Vec::new();
            lines("", &model, &mut wanted);
            wanted.sort();
            let tars: Vec<_> = layers.iter().map(|(_, heads)| tar(heads)).collect();
            let loaded = place.store.load(image(&tars).as_slice(), &Silent).unwrap();
            let paths = place.store.unpack(&loaded[0].digest).unwrap();
            let mut found = Vec::new();
            let root = Merged::open(&paths)
                .unwrap()
                .find(Path::new("/"), true)
                .unwrap()
                .unwrap();
            merged("", &root, &mut found);
            found.sort();
            prop_assert_eq!(&found, &wanted, "our own view");
            prop_assert_eq!(&overlay(&paths, &at, false), &wanted, "overlay as root");
            prop_assert_eq!(
                &overlay(&paths, &at, true),
                &wanted,
                "overlay in a user namespace"
            );
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_hard_link_to_a_lower_layer_becomes_a_copy() {
    use crate::tars::hardlink;
    let place = Place::new();
    let base = tar(&[
        dir("d").mode(0o711).owner(5, 6),
        file("d/x", "base").mode(0o640).owner(7, 8),
        symlink("l", "d/x"),
    ]);
    let upper = tar(&[hardlink("d/y", "d/x"), hardlink("m", "l")]);
    let loaded = place
        .store
        .load(image(&[base.clone(), upper.clone()]).as_slice(), &Silent)
        .unwrap();
    let layers = place.store.unpack(&loaded[0].digest).unwrap();
    let found = crate::place::tree(&layers[1], "");
    assert_eq!(found["/d/y"], "file base 640 7:8");
    assert_eq!(found["/m"], "link d/x 777 0:0");
    assert_eq!(
        found["/d"], "dir 711 5:6",
        "a directory that is only implied is as it is below"
    );
    // The same archive on another base is another layer, not this one.
    let other = tar(&[dir("d"), file("d/x", "other")]);
    let second = place.store.load(
        image(&[other, upper.clone(), base.clone()]).as_slice(),
        &Silent,
    );
    assert!(
        second.unwrap_err().to_string().contains("not there"),
        "that base has no l"
    );
    let other = tar(&[dir("d"), file("d/x", "other"), symlink("l", "elsewhere")]);
    let second = place
        .store
        .load(image(&[other, upper.clone()]).as_slice(), &Silent)
        .unwrap();
    let second = place.store.unpack(&second[0].digest).unwrap();
    assert_eq!(
        crate::place::tree(&second[1], "")["/d/y"],
        "file other 644 0:0"
    );
    assert_ne!(second[1], layers[1]);
    // Removed by the layer itself, it is not there to link to.
    let content = place.content();
    let hidden = tar(&[file("d/.wh.x", ""), hardlink("d/y", "d/x")]);
    let refused = place.store.load(image(&[base, hidden]).as_slice(), &Silent);
    assert!(refused.unwrap_err().to_string().contains("removed"));
    assert_eq!(place.content(), content);
}

#[test]
fn a_layer_that_occurs_twice_is_mounted_once() {
    let place = Place::new();
    let one = tar(&[file("x", "one")]);
    let two = tar(&[file("x", "two")]);
    let loaded = place
        .store
        .load(image(&[one.clone(), two, one]).as_slice(), &Silent)
        .unwrap();
    let layers = place.store.unpack(&loaded[0].digest).unwrap();
    assert_eq!(layers.len(), 2);
    assert_eq!(std::fs::read_to_string(layers[1].join("x")).unwrap(), "one");
}
