//! Users and groups by an image's own `/etc/passwd` and `/etc/group`, read by an own bounded parser
//! through the merged layers. May not: ask the host's name service, nor load anything of an image.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::limits;
use crate::merged::Merged;

/// Most groups that a user is put in besides the first.
const GROUPS_MOST: usize = 256;
/// Largest user or group id.
const ID_MOST: u32 = u32::MAX - 1;

/// Who a container's program runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Further groups, ascending.
    pub groups: Vec<u32>,
    /// Home directory; `/` where none is known.
    pub home: String,
}

/// Finds a user as Docker does: `name`, `uid`, `name:group`, `uid:gid`; empty means root. `layers`: the
/// lowest first. An id that is in no file may be used; a name that is in none is an error.
pub fn resolve(layers: &[PathBuf], user: &str) -> Result<User> {
    let merged = Merged::open(layers)?;
    let read = |path: &str| -> Result<String> {
        let bytes = merged
            .read(Path::new(path), limits::SMALL_FILE_BYTES)?
            .unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let (name, group) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (user, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let passwd = read("etc/passwd")?;
    let number = number(name);
    let known = passwd.lines().filter_map(account).find(|account| {
        // A name of digits is a name first.
        account.name == name || number == Some(account.uid)
    });
    let (uid, mut gid, home) = match (&known, number) {
        (Some(account), _) => (account.uid, account.gid, account.home.to_owned()),
        (None, Some(uid)) => (uid, 0, "/".to_owned()),
        (None, None) => {
            return Err(Error::Refused(format!(
                "no user {name:?} in the image's /etc/passwd; make it in the image, or give a number"
            )));
        }
    };
    let mut groups = Vec::new();
    match group {
        Some(group) if !group.is_empty() => {
            gid = group_id(&read("etc/group")?, group)?;
        }
        _ => {
            if let Some(account) = &known {
                let text = read("etc/group")?;
                groups = text
                    .lines()
                    .filter_map(group_line)
                    .filter(|(_, id, members)| {
                        *id != gid && members.split(',').any(|m| m == account.name)
                    })
                    .map(|(_, id, _)| id)
                    .take(GROUPS_MOST)
                    .collect();
                groups.sort_unstable();
                groups.dedup();
            }
        }
    }
    Ok(User {
        uid,
        gid,
        groups,
        home,
    })
}

/// A `/etc/passwd` line.
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn account(line: &str) -> Option<Account<'_>> {
    let mut fields = line.trim().split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let uid = number(fields.nth(1)?)?;
    let gid = number(fields.next()?)?;
    let home = fields
        .nth(1)
        .filter(|home| home.starts_with('/'))
        .unwrap_or("/");
    Some(Account {
        name,
        uid,
        gid,
        home,
    })
}

/// Name, id and members of a `/etc/group` line.
fn group_line(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.trim().split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let id = number(fields.nth(1)?)?;
    Some((name, id, fields.next().unwrap_or("")))
}

fn group_id(text: &str, group: &str) -> Result<u32> {
    text.lines()
        .filter_map(group_line)
        .find(|(name, _, _)| *name == group)
        .map(|(_, id, _)| id)
        .or_else(|| number(group))
        .ok_or_else(|| {
            Error::Refused(format!(
                "no group {group:?} in the image's /etc/group; make it in the image, or give a number"
            ))
        })
}

fn number(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|id| *id <= ID_MOST)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn layers(passwd: &str, group: &str) -> (tempfile::TempDir, Vec<PathBuf>) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        fs::write(dir.path().join("etc/group"), group).unwrap();
        let layers = vec![dir.path().to_owned()];
        (dir, layers)
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        let (_dir, layers) = layers(
            "root:x:0:0:root:/root:/bin/sh\n\nbroken\nann:x:1000:100::/home/ann:/bin/sh\n",
            "users:x:100:\naudio:x:29:bob,ann\nvideo:x:44:annabel\n",
        );
        let user = |text: &str| resolve(&layers, text).map(|u| (u.uid, u.gid, u.groups, u.home));
        assert_eq!(user("").unwrap(), (0, 0, vec![], "/root".into()));
        assert_eq!(
            user("ann").unwrap(),
            (1000, 100, vec![29], "/home/ann".into())
        );
        assert_eq!(
            user("1000").unwrap(),
            (1000, 100, vec![29], "/home/ann".into())
        );
        assert_eq!(
            user("ann:audio").unwrap(),
            (1000, 29, vec![], "/home/ann".into())
        );
        assert_eq!(user("77:88").unwrap(), (77, 88, vec![], "/".into()));
        assert_eq!(user("77").unwrap(), (77, 0, vec![], "/".into()));
        for wrong in ["eve", "ann:nobody", "4294967295", "-1", "99999999999"] {
            assert!(user(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn links_stay_inside_and_strange_files_end_at_once() {
        let (dir, layers) = layers("", "");
        let passwd = dir.path().join("etc/passwd");
        fs::remove_file(&passwd).unwrap();
        std::os::unix::fs::symlink("/../../etc/real", &passwd).unwrap();
        fs::write(dir.path().join("etc/real"), "ann:x:5:6::/a:/bin/sh").unwrap();
        assert_eq!(resolve(&layers, "ann").unwrap().uid, 5);
        fs::remove_file(&passwd).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &passwd, fifo, 0o644.into(), 0).unwrap();
        assert!(resolve(&layers, "ann").is_err());
        fs::remove_file(&passwd).unwrap();
        fs::File::create(&passwd).unwrap().set_len(1 << 30).unwrap();
        assert!(
            resolve(&layers, "ann")
                .unwrap_err()
                .to_string()
                .contains("limit")
        );
    }
}
