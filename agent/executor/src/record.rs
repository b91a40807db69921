//! What an executor writes down, so that the next one knows which containers it had: a file for each that lives,
//! and one for each that ended until its outcome is taken. May not: wait for the disk; the files
//! are for the end of a process, and a reboot ends every container anyway.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use regatta_model::container::{Ended, Ending};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Longest record that is read back, in bytes.
const RECORD_MOST: u64 = 1 << 20;
/// Records that are read back at most.
const RECORDS_MOST: usize = 100_000;

/// A container that lives, or did when this was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Live {
    /// Its name.
    pub id: String,
    /// Directories that exist only while it does.
    pub discard: Vec<PathBuf>,
}

/// The process that a living container began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Init {
    /// Its process id.
    pub pid: i32,
    /// When it started, in clock ticks after the boot; tells it from a later one with the same id.
    pub started: u64,
}

/// The files.
#[derive(Debug)]
pub(crate) struct Records {
    live: PathBuf,
    ended: PathBuf,
    /// The number of the last life.
    life: PathBuf,
}

/// What a former executor left.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// First processes that may still be there.
    pub inits: Vec<Init>,
    /// Directories to remove.
    pub discard: Vec<PathBuf>,
    /// Outcomes that nobody took, those of lost containers included.
    pub ended: BTreeMap<String, Ended>,
}

impl Records {
    pub(crate) fn open(state: &Path) -> Result<Self, Error> {
        let records = Self {
            live: state.join("live"),
            ended: state.join("ended"),
            life: state.join("life"),
        };
        for directory in [&records.live, &records.ended] {
            fs::create_dir_all(directory).map_err(|error| Error::io("make", directory, &error))?;
        }
        Ok(records)
    }

    /// The number of this life: the moment `now` where the clock goes forward, and above the last one in any case, or a
    /// clock that was set back would make this life an older one, which no server hears. Waits for the disk.
    pub(crate) fn begin_life(&self, now: u64) -> io::Result<u64> {
        let last = match fs::read_to_string(&self.life) {
            Ok(text) => text.trim().parse().unwrap_or(0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let life = now.max(u64::saturating_add(last, 1));
        let draft = self.life.with_extension("new");
        let mut file = fs::File::create(&draft)?;
        file.write_all(life.to_string().as_bytes())?;
        file.sync_all()?;
        fs::rename(draft, &self.life)?;
        Ok(life)
    }

    /// Writes down that a container is about to be.
    pub(crate) fn begin(&self, live: &Live) -> io::Result<()> {
        let mut text = serde_json::to_vec(live)?;
        text.push(b'\n');
        fs::write(self.live.join(&live.id), text)
    }

    /// Adds its first process.
    pub(crate) fn add_init(&self, id: &str, pid: i32) -> io::Result<()> {
        let started = start_time(pid).unwrap_or(0);
        let line = serde_json::to_vec(&Init { pid, started })?;
        let mut file = OpenOptions::new().append(true).open(self.live.join(id))?;
        file.write_all(&line)
    }

    /// Writes down an end, and that the container is no more.
    pub(crate) fn end(&self, ended: &Ended) -> io::Result<()> {
        let written = self.ended.join(format!(".{}", ended.id));
        fs::write(&written, serde_json::to_vec(ended)?)?;
        fs::rename(written, self.ended.join(&ended.id))?;
        self.never_was(&ended.id);
        Ok(())
    }

    /// Forgets that a container was to be.
    pub(crate) fn never_was(&self, id: &str) {
        let _gone = fs::remove_file(self.live.join(id));
    }

    /// Forgets an end.
    pub(crate) fn forget(&self, id: &str) {
        let _gone = fs::remove_file(self.ended.join(id));
    }

    /// Reads what a former executor left.
    pub(crate) fn left(&self) -> Result<Left, Error> {
        let mut left = Left::default();
        for (path, text) in read_all(&self.ended)? {
            match serde_json::from_slice::<Ended>(&text) {
                Ok(ended) => drop(left.ended.insert(ended.id.clone(), ended)),
                // Half written when its writer died: the container's other record still stands.
                Err(_) => drop(fs::remove_file(path)),
            }
        }
        for (path, text) in read_all(&self.live)? {
            let mut lines = text.split(|byte| *byte == b'\n');
            let live = lines
                .next()
                .and_then(|line| serde_json::from_slice::<Live>(line).ok());
            let init = lines
                .next()
                .and_then(|line| serde_json::from_slice::<Init>(line).ok());
            left.inits.extend(init);
            let id = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned());
            left.discard
                .extend(live.map(|live| live.discard).unwrap_or_default());
            if let Some(id) = id {
                left.ended
                    .entry(id.clone())
                    .or_insert_with(|| ended_by(&id, Ending::ExecutorLost));
            }
        }
        Ok(left)
    }
}

/// An end of which nothing is known but how.
pub(crate) fn ended_by(id: &str, ending: Ending) -> Ended {
    Ended {
        id: id.to_owned(),
        ending,
        start_us: 0,
        wall_ms: 0,
        cpu_us: 0,
        peak_memory_bytes: 0,
        oom_kills: 0,
        output_bytes: 0,
        output_dropped: 0,
        changed: Vec::new(),
        changed_more: false,
    }
}

fn read_all(directory: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>, Error> {
    let mut all = Vec::new();
    let entries = fs::read_dir(directory).map_err(|error| Error::io("read", directory, &error))?;
    for entry in entries.flatten().take(RECORDS_MOST) {
        let path = entry.path();
        if entry
            .metadata()
            .is_ok_and(|data| data.is_file() && data.len() <= RECORD_MOST)
            && let Ok(text) = fs::read(&path)
        {
            all.push((path, text));
        }
    }
    all.sort();
    Ok(all)
}

/// When a process started, in clock ticks after the boot.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_life_has_a_higher_number_whatever_the_clock_says() {
        let state = tempfile::tempdir().unwrap();
        let begin = |now| {
            let records = Records::open(state.path()).unwrap();
            records.begin_life(now).unwrap()
        };
        assert_eq!(begin(1000), 1000);
        assert_eq!(begin(2000), 2000);
        // The clock was set back.
        assert_eq!((begin(500), begin(500)), (2001, 2002));
        assert_eq!(begin(3000), 3000);
        // What cannot be read is no number.
        fs::write(state.path().join("life"), "?").unwrap();
        assert_eq!(begin(4000), 4000);
    }
}
