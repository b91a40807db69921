//! Archives that no honest program makes. Each is refused with a sentence and leaves the store as it was,
//! or unpacks to exactly what it must; and a canary outside is never touched.

use std::collections::BTreeMap;

use regatta_image::UnpackLimits;

use crate::place::{Place, tree};
use crate::tars::{Head, dir, entry, file, gzip, hardlink, pax, pax_records, symlink, tar};

/// What must happen.
enum Must {
    /// The sentence holds these words.
    Refuse(&'static str),
    /// These paths are made, and no others.
    Make(&'static [(&'static str, &'static str)]),
}

use Must::{Make, Refuse};

fn corpus(outside: &str) -> Vec<(&'static str, Vec<u8>, Must)> {
    let canary = format!("{outside}/canary");
    let up = format!("{}{}", "../".repeat(12), canary.trim_start_matches('/'));
    let long = "n".repeat(256);
    let deep = "d/".repeat(300) + "f";
    let mut corpus = names(&canary, &up, &long, &deep);
    corpus.extend(links(outside, &canary, &up));
    corpus.extend(kinds());
    corpus.extend(headers());
    corpus.extend(whiteouts(&canary));
    corpus
}

fn names(canary: &str, up: &str, long: &str, deep: &str) -> Vec<(&'static str, Vec<u8>, Must)> {
    vec![
        (
            "absolute name",
            tar(&[file(canary, "x")]),
            Refuse("absolute"),
        ),
        ("dots that lead up", tar(&[file(up, "x")]), Refuse("\"..\"")),
        (
            "dots in the middle",
            tar(&[dir("a"), file("a/../../x", "x")]),
            Refuse("\"..\""),
        ),
        ("dots at the end", tar(&[dir("a/..")]), Refuse("\"..\"")),
        (
            "dots in an extended header",
            [entry(&pax(&[("path", b"a/../b")])), tar(&[file("ok", "x")])].concat(),
            Refuse("\"..\""),
        ),
        (
            "absolute in an extended header",
            [
                entry(&pax(&[("path", canary.as_bytes())])),
                tar(&[file("ok", "x")]),
            ]
            .concat(),
            Refuse("absolute"),
        ),
        (
            "absolute in a long name",
            [
                entry(&Head::new(b'L', "././@LongLink").content(canary)),
                tar(&[file("ok", "x")]),
            ]
            .concat(),
            Refuse("absolute"),
        ),
        (
            "NUL in a name",
            [entry(&pax(&[("path", b"a\0b")])), tar(&[file("ok", "x")])].concat(),
            Refuse("NUL"),
        ),
        (
            "newline in a name",
            tar(&[file("a\nb", "x")]),
            Make(&[("a\nb", "file x 644 0:0")]),
        ),
        ("empty name", tar(&[file("", "x")]), Refuse("no name")),
        (
            "a part of 256 bytes",
            tar(&[file(long, "x")]),
            Refuse("longer than 255"),
        ),
        (
            "300 levels",
            tar(&[file(deep, "x")]),
            Refuse("unpack.depth"),
        ),
        ("the root as a file", tar(&[file("./", "")]), Make(&[])),
        (
            "the root as a link",
            tar(&[symlink("./.", "/")]),
            Refuse("root itself"),
        ),
    ]
}

fn links(outside: &str, canary: &str, up: &str) -> Vec<(&'static str, Vec<u8>, Must)> {
    vec![
        (
            "write through an absolute link",
            tar(&[symlink("l", outside), file("l/canary", "dead")]),
            Refuse("leads outside"),
        ),
        (
            "write through a link that climbs",
            tar(&[
                symlink("l", up.trim_end_matches("/canary")),
                file("l/canary", "dead"),
            ]),
            Refuse("leads outside"),
        ),
        (
            "write through a chain of links",
            tar(&[
                symlink("a", "b"),
                symlink("b", outside),
                file("a/canary", "dead"),
            ]),
            Refuse("leads outside"),
        ),
        (
            "write through a link inside",
            tar(&[dir("usr"), symlink("lib", "usr"), file("lib/x", "in")]),
            Make(&[
                ("usr", "dir 755 0:0"),
                ("lib", "link usr 777 0:0"),
                ("usr/x", "file in 644 0:0"),
            ]),
        ),
        (
            "write through a link to nothing",
            tar(&[symlink("l", "nowhere"), file("l/x", "x")]),
            Refuse("no directory"),
        ),
        (
            "links in a circle",
            tar(&[symlink("a", "b"), symlink("b", "a"), file("a/x", "x")]),
            Refuse("circle"),
        ),
        (
            "file in place of a link",
            tar(&[symlink("l", canary), file("l", "mine")]),
            Make(&[("l", "file mine 644 0:0")]),
        ),
        (
            "directory in place of a link",
            tar(&[
                symlink("l", outside),
                dir("l").mode(0o777),
                file("l/canary", "mine"),
            ]),
            Make(&[
                ("l", "dir opaque 777 0:0"),
                ("l/canary", "file mine 644 0:0"),
            ]),
        ),
        (
            "link in place of a directory",
            tar(&[
                dir("d"),
                file("d/x", "x"),
                symlink("d", outside),
                file("d/canary", "dead"),
            ]),
            Refuse("leads outside"),
        ),
        (
            "fifo in place of a link",
            tar(&[symlink("l", canary), Head::new(b'6', "l")]),
            Make(&[("l", "other 10000 0 644 0:0")]),
        ),
        (
            "hard link to outside",
            tar(&[hardlink("h", canary)]),
            Refuse("hard link to a place outside"),
        ),
        (
            "hard link up",
            tar(&[hardlink("h", up)]),
            Refuse("hard link to a place outside"),
        ),
        (
            "hard link through a link",
            tar(&[symlink("l", outside), hardlink("h", "l/canary")]),
            Refuse("leads outside"),
        ),
        (
            "hard link to a link, then write",
            tar(&[symlink("l", canary), hardlink("h", "l"), file("h", "mine")]),
            Make(&[("l", "LINK 777 0:0"), ("h", "file mine 644 0:0")]),
        ),
        (
            "hard link to nothing",
            tar(&[hardlink("h", "nowhere")]),
            Refuse("not there"),
        ),
        (
            "hard link to a directory",
            tar(&[dir("d"), hardlink("h", "d")]),
            Refuse("to a directory"),
        ),
        (
            "hard link to itself",
            tar(&[file("h", "x"), hardlink("h", "./h")]),
            Make(&[("h", "file x 644 0:0")]),
        ),
        (
            "hard link over its own directory",
            tar(&[dir("d"), file("d/x", "x"), hardlink("d", "d/x")]),
            Refuse("in place of a directory"),
        ),
        (
            "hard link with content",
            tar(&[file("x", "x"), hardlink("h", "x").content("more")]),
            Refuse("has content"),
        ),
        (
            "link without target",
            tar(&[symlink("l", "")]),
            Refuse("target"),
        ),
        (
            "path through a file",
            tar(&[file("f", "x"), file("f/x", "x")]),
            Refuse("no directory"),
        ),
    ]
}

fn kinds() -> Vec<(&'static str, Vec<u8>, Must)> {
    let null = Head {
        device: (1, 3),
        ..Head::new(b'3', "dev/null")
    };
    let disk = Head {
        device: (8, 0),
        ..Head::new(b'4', "dev/sda")
    };
    let whiteout = Head::new(b'3', "etc");
    vec![
        (
            "device nodes",
            tar(&[
                dir("dev"),
                null.clone(),
                disk,
                hardlink("dev/zero", "dev/null"),
            ]),
            Make(&[("dev", "dir 755 0:0")]),
        ),
        (
            "a device that overlay would take for a whiteout",
            tar(&[whiteout]),
            Make(&[]),
        ),
        (
            "set-user-id and owner kept",
            tar(&[
                file("su", "x").mode(0o4755).owner(7, 8),
                dir("t").mode(0o1777),
            ]),
            Make(&[("su", "file x 4755 7:8"), ("t", "dir 1777 0:0")]),
        ),
        (
            "duplicate files",
            tar(&[file("f", "one"), file("f", "two").mode(0o600)]),
            Make(&[("f", "file two 600 0:0")]),
        ),
        (
            "duplicate directories",
            tar(&[dir("d"), file("d/x", "x"), dir("d").mode(0o700)]),
            Make(&[("d", "dir 700 0:0"), ("d/x", "file x 644 0:0")]),
        ),
        (
            "file in place of a full directory",
            tar(&[
                dir("d"),
                dir("d/e"),
                file("d/e/x", "x"),
                file("d", "now a file"),
            ]),
            Make(&[("d", "file now a file 644 0:0")]),
        ),
        (
            "unknown type",
            tar(&[Head::new(b'Z', "x")]),
            Refuse("not known"),
        ),
        (
            "user id of all ones",
            [
                entry(&pax(&[("uid", b"4294967295")])),
                tar(&[file("x", "x")]),
            ]
            .concat(),
            Refuse("user id"),
        ),
        (
            "negative group id",
            tar(&[file("x", "x").patch(116, [0xff; 8])]),
            Refuse("group id"),
        ),
        (
            "negative time",
            [entry(&pax(&[("mtime", b"-1.5")])), tar(&[file("x", "x")])].concat(),
            Make(&[("x", "file x 644 0:0")]),
        ),
    ]
}

fn headers() -> Vec<(&'static str, Vec<u8>, Must)> {
    let with_pax =
        |records: &[(&str, &[u8])], rest: &[Head]| [entry(&pax(records)), tar(rest)].concat();
    let hidden = entry(&file("hidden", "x"));
    vec![
        (
            "sizes that differ",
            with_pax(&[("size", b"512")], &[file("x", hidden.as_slice())]),
            Refuse("different sizes"),
        ),
        (
            "size 0 in the header, more in the extended one",
            with_pax(
                &[("size", b"512")],
                &[Head::new(b'0', "x").content([0; 512]).size(0)],
            ),
            Refuse("different sizes"),
        ),
        (
            "size beyond 64 bits",
            tar(&[Head::new(b'0', "x").patch(
                124,
                [
                    0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                ],
            )]),
            Refuse("size"),
        ),
        (
            "negative size",
            tar(&[Head::new(b'0', "x").patch(124, [0xff; 12])]),
            Refuse("size"),
        ),
        (
            "size beyond the archive",
            tar(&[Head::new(b'0', "x").size(1 << 30)]),
            Refuse("middle of an entry"),
        ),
        (
            "wrong checksum",
            {
                let mut bytes = tar(&[file("x", "x")]);
                bytes[0] ^= 1;
                bytes
            },
            Refuse("checksum"),
        ),
        (
            "half a header",
            entry(&file("x", "x"))[..300].to_vec(),
            Refuse("middle of a header"),
        ),
        (
            "no tar at all",
            b"hello world, this is no archive".repeat(40),
            Refuse("checksum"),
        ),
        (
            "two extended headers",
            [
                entry(&pax(&[("path", b"a")])),
                entry(&pax(&[("path", b"b")])),
                tar(&[file("x", "x")]),
            ]
            .concat(),
            Refuse("two extended headers"),
        ),
        (
            "extended and long name",
            [
                entry(&pax(&[("path", b"a")])),
                entry(&Head::new(b'L', "l").content("b\0")),
                tar(&[file("x", "x")]),
            ]
            .concat(),
            Refuse("both by a PAX and by a GNU"),
        ),
        (
            "extended header, then the end",
            [entry(&pax(&[("path", b"a")])), vec![0; 1024]].concat(),
            Refuse("ends after an extended header"),
        ),
        (
            "extended header of 64 MiB",
            [entry(&Head::new(b'x', "x").size(64 << 20))].concat(),
            Refuse("unpack.header_bytes"),
        ),
        (
            "long name of 64 MiB",
            [entry(&Head::new(b'L', "x").size(64 << 20))].concat(),
            Refuse("unpack.header_bytes"),
        ),
        (
            "extended header that lies about its length",
            [
                entry(&Head::new(b'x', "x").content("99 path=a\n")),
                tar(&[file("x", "x")]),
            ]
            .concat(),
            Refuse("malformed"),
        ),
        (
            "global header that renames all",
            [
                entry(&Head::new(b'g', "g").content(pax_records(&[("path", b"evil")]))),
                tar(&[file("x", "x")]),
            ]
            .concat(),
            Refuse("global"),
        ),
        (
            "global header with a comment",
            [
                entry(&Head::new(b'g', "g").content(pax_records(&[("comment", b"hi")]))),
                tar(&[file("x", "x")]),
            ]
            .concat(),
            Make(&[("x", "file x 644 0:0")]),
        ),
        (
            "overlay's own attributes",
            with_pax(
                &[
                    ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
                    ("SCHILY.xattr.user.overlay.opaque", b"y"),
                ],
                &[dir("d")],
            ),
            Make(&[("d", "dir 755 0:0")]),
        ),
        (
            "attribute of 100 KiB",
            with_pax(
                &[("SCHILY.xattr.user.x", &[b'x'; 100 << 10])],
                &[file("x", "x")],
            ),
            Refuse("unpack.xattr_bytes"),
        ),
        (
            "sparse file of 1 PiB",
            with_pax(
                &[
                    ("GNU.sparse.size", b"1125899906842624"),
                    ("GNU.sparse.map", b"0,1"),
                ],
                &[file("x", "x")],
            ),
            Refuse("unpack.bytes"),
        ),
        (
            "sparse map that overlaps",
            with_pax(
                &[("GNU.sparse.size", b"100"), ("GNU.sparse.map", b"0,2,1,2")],
                &[file("x", "xxxx")],
            ),
            Refuse("overlaps"),
        ),
        (
            "sparse map beyond its content",
            with_pax(
                &[("GNU.sparse.size", b"9999"), ("GNU.sparse.map", b"0,5000")],
                &[file("x", "xxxx")],
            ),
            Refuse("differ in length"),
        ),
        (
            "sparse map beyond the file",
            with_pax(
                &[("GNU.sparse.size", b"2"), ("GNU.sparse.map", b"0,4")],
                &[file("x", "xxxx")],
            ),
            Refuse("leaves the file"),
        ),
        (
            "sparse file, honest",
            with_pax(
                &[("GNU.sparse.size", b"4"), ("GNU.sparse.map", b"1,2")],
                &[file("x", "ab")],
            ),
            Make(&[("x", "file \0ab\0 644 0:0")]),
        ),
        (
            "old sparse map that never ends",
            entry(
                &Head::new(b'S', "x")
                    .patch(482, [1])
                    .patch(483, b"00000000100\0"),
            ),
            Refuse("ends in its map"),
        ),
    ]
}

fn whiteouts(canary: &str) -> Vec<(&'static str, Vec<u8>, Must)> {
    const HIDDEN: &str = "other 20000 0 0 0:0";
    vec![
        (
            "whiteout",
            tar(&[dir("d"), file("d/.wh.x", "")]),
            Make(&[("d", "dir 755 0:0"), ("d/x", HIDDEN)]),
        ),
        (
            "whiteout of no name",
            tar(&[file(".wh.", "")]),
            Refuse("whiteout of no name"),
        ),
        (
            "whiteout of the directory itself",
            tar(&[dir("d"), file("d/.wh..", "")]),
            Refuse("whiteout of no name"),
        ),
        (
            "whiteout of the directory above",
            tar(&[dir("d"), file("d/.wh...", "")]),
            Refuse("whiteout of no name"),
        ),
        (
            "below a whiteout",
            tar(&[file("d/.wh.x/y", "")]),
            Refuse("below a whiteout"),
        ),
        (
            "whiteout through a link outside",
            tar(&[
                symlink("l", canary.trim_end_matches("/canary")),
                file("l/.wh.canary", ""),
            ]),
            Refuse("leads outside"),
        ),
        (
            "opaque through a link outside",
            tar(&[
                symlink("l", canary.trim_end_matches("/canary")),
                file("l/.wh..wh..opq", ""),
            ]),
            Refuse("leads outside"),
        ),
        (
            "opaque after its siblings",
            tar(&[dir("d"), file("d/x", "x"), file("d/.wh..wh..opq", "")]),
            Make(&[("d", "dir opaque 755 0:0"), ("d/x", "file x 644 0:0")]),
        ),
        (
            "whiteout, then the same name",
            tar(&[
                file(".wh.x", ""),
                file("x", "new"),
                file(".wh.d", ""),
                dir("d"),
            ]),
            Make(&[("x", "file new 644 0:0"), ("d", "dir opaque 755 0:0")]),
        ),
        (
            "the same name, then its whiteout",
            tar(&[
                file("x", "new"),
                file(".wh.x", ""),
                dir("d"),
                file(".wh.d", ""),
            ]),
            Make(&[("x", "file new 644 0:0"), ("d", "dir opaque 755 0:0")]),
        ),
        (
            "hard link to a whiteout",
            tar(&[file(".wh.x", ""), hardlink("h", "x")]),
            Refuse("removed"),
        ),
        (
            "aufs's own files",
            tar(&[
                dir(".wh..wh.plnk"),
                file(".wh..wh.plnk/1.2", "x"),
                file(".wh..wh.aufs", ""),
            ]),
            Make(&[]),
        ),
    ]
}

#[test]
fn hostile_archives_are_refused_or_harmless() {
    let place = Place::new();
    place.import(&tar(&[file("first", "x")]), "first").unwrap();
    let outside = place.outside().to_str().unwrap().to_owned();
    let (content, canary) = (place.content(), place.canary());
    let corpus = corpus(&outside);
    assert!(corpus.len() >= 40, "{}", corpus.len());
    for (name, bytes, must) in corpus {
        for packed in [bytes.clone(), gzip(&bytes)] {
            let done = place.import(&packed, "hostile");
            match (&done, &must) {
                (Err(error), Refuse(words)) => {
                    assert!(error.contains(words), "{name}: {error}");
                    assert_eq!(place.content(), content, "{name}: something is left");
                }
                (Ok(digest), Make(wanted)) => {
                    let layers = place.store.unpack(digest).unwrap();
                    let mut found = tree(&layers[0], "");
                    assert!(found.remove("").unwrap().starts_with("dir"), "{name}");
                    let found: BTreeMap<_, _> = found
                        .into_iter()
                        .map(|(path, what)| (path[1..].to_owned(), what))
                        .collect();
                    let link = format!("link {outside}/canary");
                    let wanted: BTreeMap<_, _> = wanted
                        .iter()
                        .map(|(path, what)| ((*path).to_owned(), what.replace("LINK", &link)))
                        .collect();
                    assert_eq!(found, wanted, "{name}");
                    place.store.remove("hostile").unwrap();
                    assert_eq!(place.content(), content, "{name}: something is left");
                }
                (done, _) => panic!("{name}: {done:?}"),
            }
            assert_eq!(place.canary(), canary, "{name}");
        }
    }
}

#[test]
fn bombs_end_at_their_limit() {
    let limits = UnpackLimits {
        bytes: 64 << 20,
        entries: 1_000,
        ..UnpackLimits::default()
    };
    let place = Place::with(limits);
    let content = place.content();
    let zeros = gzip(&vec![0; 256 << 20]);
    assert!(zeros.len() < 2 << 20);
    let header = |size: u64| entry(&Head::new(b'0', "zeros").size(size));
    let many: Vec<_> = (0..1_001)
        .map(|number| file(format!("f{number}"), ""))
        .collect();
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    for (name, bytes, words) in [
        (
            "zeros in one file",
            [gzip(&header(256 << 20)), zeros.clone()].concat(),
            "unpack.bytes",
        ),
        (
            "zeros after the end",
            [gzip(&tar(&[])), zeros].concat(),
            "unpack.bytes",
        ),
        (
            "zeros by zstd",
            [zstd(&header(256 << 20)), zstd(&vec![0; 256 << 20])].concat(),
            "unpack.bytes",
        ),
        ("a thousand and one files", tar(&many), "unpack.entries"),
    ] {
        let error = place.import(&bytes, "bomb").unwrap_err();
        assert!(
            error.contains(words) && error.contains("REGATTA_UNPACK_"),
            "{name}: {error}"
        );
        assert_eq!(place.content(), content, "{name}");
    }
    let limits = UnpackLimits {
        ratio: 20,
        ..UnpackLimits::default()
    };
    let place = Place::with(limits);
    let size = 300 << 20;
    let bytes = [gzip(&header(size)), gzip(&vec![0; 300 << 20])].concat();
    assert!(
        place
            .import(&bytes, "bomb")
            .unwrap_err()
            .contains("unpack.ratio")
    );
}
