//! The files of a commit as a tar archive: byte for byte what the commit has. May not: convert line ends, fill in keywords
//! or run filters, whatever `.gitattributes` says.

use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::process::{ChildStdin, ChildStdout, Stdio};

use regatta_image::archive::Tree;
use regatta_image::limits::PATH_BYTES;

use super::{Repository, Running};

/// Longest pointer of Git LFS, in bytes.
const POINTER_MOST: u64 = 1024;

/// How every such pointer begins.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Longest head of an object in an answer, in bytes.
const HEAD_MOST: u64 = 256;

/// What a commit names and does not have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    /// Submodules: empty directories.
    pub(crate) submodules: u64,
    /// Files that Git LFS keeps: small files that say where.
    pub(crate) pointers: u64,
}

/// An entry of a commit's tree.
struct Entry<'a> {
    mode: &'a str,
    hash: &'a str,
    size: Option<u64>,
    path: &'a [u8],
}

impl Repository {
    /// Writes the files of a commit, by its whole hash, to `out`.
    pub(crate) fn pack(&self, hash: &str, out: impl Write) -> Result<Elsewhere, String> {
        let failed = || {
            format!(
                "git cannot read the files of the commit {hash}: `git -C {} fsck` tells more",
                self.shown
            )
        };
        let mut git = self.git();
        git.args(["ls-tree", "-r", "-t", "-z", "-l", "--full-tree", hash]);
        let mut listing = Running::start(&mut git).ok_or_else(failed)?;
        let mut list = listing.out().ok_or_else(failed)?;
        let mut git = self.git();
        git.args(["cat-file", "--batch"]).stdin(Stdio::piped());
        let mut objects = Objects::start(Running::start(&mut git)).ok_or_else(failed)?;
        let mut tree = Tree::new(out).map_err(|error| error.to_string())?;
        let mut elsewhere = Elsewhere::default();
        let mut line = Vec::new();
        loop {
            line.clear();
            let longest = u64::try_from(PATH_BYTES).unwrap_or(u64::MAX) + HEAD_MOST;
            let read = list.by_ref().take(longest).read_until(0, &mut line);
            if read.map_err(|_| failed())? == 0 {
                break;
            }
            let entry = entry(&line).ok_or_else(|| {
                let path = String::from_utf8_lossy(&line);
                format!("the commit {hash} has an entry that cannot be read: {path:?}")
            })?;
            let missing = || {
                format!(
                    "{:?} of the commit {hash} is not in the repository: a partial clone, or a damaged one",
                    String::from_utf8_lossy(entry.path)
                )
            };
            let packed = match (entry.mode, entry.size) {
                ("040000", _) => tree.directory(entry.path),
                ("160000", _) => {
                    elsewhere.submodules += 1;
                    tree.directory(entry.path)
                }
                ("120000", Some(size)) if size > longest => {
                    let path = String::from_utf8_lossy(entry.path);
                    return Err(format!(
                        "{path:?} of the commit {hash} is a link that no system has: of {size} bytes"
                    ));
                }
                ("120000", Some(size)) => {
                    let mut target = Vec::new();
                    let mut object = objects.object(entry.hash, size).ok_or_else(missing)?;
                    object.read_to_end(&mut target).map_err(|_| missing())?;
                    tree.symlink(entry.path, &target)
                }
                ("100644" | "100755" | "100664", Some(size)) => {
                    let mut object = objects.object(entry.hash, size).ok_or_else(missing)?;
                    let mut head = Vec::new();
                    if size <= POINTER_MOST {
                        object.read_to_end(&mut head).map_err(|_| missing())?;
                        elsewhere.pointers += u64::from(head.starts_with(POINTER));
                    }
                    let executable = entry.mode == "100755";
                    tree.file(entry.path, executable, size, head.as_slice().chain(object))
                }
                _ => return Err(missing()),
            };
            packed.map_err(|error| error.to_string())?;
        }
        listing.end().ok_or_else(failed)?;
        tree.finish().map_err(|error| error.to_string())?;
        Ok(elsewhere)
    }
}

/// `MODE SP TYPE SP HASH SP SIZE TAB PATH NUL`, the size with spaces before it, or `-`.
fn entry(line: &[u8]) -> Option<Entry<'_>> {
    let line = line.strip_suffix(&[0])?;
    let tab = line.iter().position(|byte| *byte == b'\t')?;
    let (head, path) = line.split_at_checked(tab)?;
    let mut words = std::str::from_utf8(head).ok()?.split_ascii_whitespace();
    let (mode, _, hash, size) = (words.next()?, words.next()?, words.next()?, words.next()?);
    Some(Entry {
        mode,
        hash,
        size: size.parse().ok(),
        path: path.get(1..)?,
    })
}

/// A git that gives one object after the other.
struct Objects {
    asked: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Whether a line end that belongs to the former answer comes first.
    ended: bool,
    _git: Running,
}

impl Objects {
    fn start(git: Option<Running>) -> Option<Self> {
        let mut git = git?;
        Some(Self {
            asked: git.0.stdin.take()?,
            answers: git.out()?,
            ended: true,
            _git: git,
        })
    }

    /// The content of an object of this size, to be read to its end before the next; none where it is not there.
    fn object(&mut self, hash: &str, size: u64) -> Option<impl std::io::Read> {
        self.asked.write_all(hash.as_bytes()).ok()?;
        self.asked.write_all(b"\n").ok()?;
        let mut head = Vec::new();
        if !std::mem::replace(&mut self.ended, false) {
            let mut answers = self.answers.by_ref().take(1);
            answers.read_until(b'\n', &mut head).ok()?;
            head.clear();
        }
        let mut answers = self.answers.by_ref().take(HEAD_MOST);
        answers.read_until(b'\n', &mut head).ok()?;
        let told = std::str::from_utf8(&head)
            .ok()?
            .trim_end()
            .rsplit_once(' ')?;
        (told.1.parse() == Ok(size)).then(|| self.answers.by_ref().take(size))
    }
}
