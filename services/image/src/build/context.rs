//! The directory that COPY copies from, and what is left out of it. All access goes through descriptors of
//! directories below it; a symbolic link is never followed out of it. May not: write there.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::ignore::{self, Ignore};
use crate::error::{Error, Result};
use crate::merged::Merged;

/// The context.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) tree: Merged,
    pub(super) ignore: Ignore,
    /// The file that says what is left out, if there is one.
    pub(super) ignore_file: Option<String>,
}

impl Context {
    /// Opens it. `containerfile` may have patterns of its own beside it: `NAME.containerignore` or
    /// `NAME.dockerignore`; else the context's `.containerignore` or `.dockerignore` holds.
    pub(super) fn open(directory: &Path, containerfile: &Path) -> Result<Self> {
        let real = directory
            .canonicalize()
            .map_err(|e| Error::at("open the build context", directory, e))?;
        if !real.is_dir() {
            let why = "it is no directory".to_owned();
            return Err(Error::malformed(
                format!("the build context {}", directory.display()),
                why,
            ));
        }
        let tree = Merged::open(&[real])?;
        let beside = |suffix: &str| {
            let mut path = containerfile.as_os_str().to_owned();
            path.push(suffix);
            PathBuf::from(path)
        };
        let candidates = [
            beside(".containerignore"),
            beside(".dockerignore"),
            directory.join(".containerignore"),
            directory.join(".dockerignore"),
        ];
        for path in candidates {
            if let Some(text) = read(&path)? {
                let ignore = Ignore::parse(&text).map_err(|(line, why)| {
                    Error::Refused(format!(
                        "{}:{line}: this pattern cannot be used: {why}",
                        path.display()
                    ))
                })?;
                let name = path
                    .file_name()
                    .map(|name| name.to_string_lossy().into_owned());
                return Ok(Self {
                    tree,
                    ignore,
                    ignore_file: name,
                });
            }
        }
        Ok(Self {
            tree,
            ignore: Ignore::default(),
            ignore_file: None,
        })
    }
}

fn read(path: &Path) -> Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::at("open", path, e)),
    };
    let mut bytes = Vec::new();
    file.take(ignore::FILE_MOST + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::at("read", path, e))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > ignore::FILE_MOST {
        return Err(Error::limit(
            path.display().to_string(),
            "build.ignore_bytes",
            ignore::FILE_MOST,
        ));
    }
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| Error::malformed(path.display().to_string(), "it is not UTF-8 text"))
}
