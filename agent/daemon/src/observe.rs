//! How the host is now: pressure, file nodes, and whether its data can be written. May not: fail, or take long; what the
//! host does not tell is none.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use regatta_model::wire::{Observed, Pressure};
use rustix::fs::StatVfsMountFlags;

/// Bytes that must be free where the data lies: less is not enough for what an attempt writes beside its disk limit.
const DISK_LEAST: u64 = 256 << 20;
/// File nodes that must be free there.
const NODES_LEAST: u64 = 1000;
/// What is written and read back to see whether that works.
const PROBE: &[u8] = b"regatta was here\n";

/// Looks at the host and at the file system of `data`, and writes a small file there.
pub fn observe(data: &Path) -> Observed {
    let mut observed = Observed {
        pressure: Pressure {
            cpu: pressure("cpu"),
            memory: pressure("memory"),
            io: pressure("io"),
        },
        ..Observed::default()
    };
    let lacks = &mut observed.lacks;
    if let Ok(stat) = rustix::fs::statvfs(data) {
        // Some file systems have as many nodes as they need, and say 0.
        observed.nodes_free = (stat.f_files > 0).then_some(stat.f_favail);
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if stat.f_flag.contains(StatVfsMountFlags::RDONLY) {
            lacks.push("its data lies on a file system that is read-only".to_owned());
        } else if free < DISK_LEAST {
            let mebibytes = free >> 20;
            lacks.push(format!("only {mebibytes} MiB are free where its data lies"));
        } else if let Some(nodes) = observed.nodes_free.filter(|nodes| *nodes < NODES_LEAST) {
            lacks.push(format!(
                "only {nodes} more files can be made where its data lies"
            ));
        }
    }
    if lacks.is_empty()
        && let Err(error) = probe(data)
    {
        lacks.push(format!("its data cannot be written: {error}"));
    }
    observed
}

/// One probe at a time: they share a file.
static PROBING: Mutex<()> = Mutex::new(());

/// Writes a file to disk and reads it back.
fn probe(data: &Path) -> std::io::Result<()> {
    let _alone = PROBING.lock().unwrap_or_else(PoisonError::into_inner);
    let path = data.join("probe");
    let mut file = File::create(&path)?;
    file.write_all(PROBE)?;
    file.sync_all()?;
    let mut back = Vec::new();
    File::open(&path)?.take(64).read_to_end(&mut back)?;
    fs::remove_file(&path)?;
    if back == PROBE {
        Ok(())
    } else {
        Err(std::io::Error::other(
            "what was read back is not what was written",
        ))
    }
}

/// How much of the last ten seconds some task stood still for want of this, in a thousandth; none where the kernel does not
/// tell (https://docs.kernel.org/accounting/psi.html).
fn pressure(of: &str) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/pressure/{of}")).ok()?;
    permille(&text)
}

/// `some avg10=1.25 avg60=...` is 12.
fn permille(text: &str) -> Option<u32> {
    let some = text.lines().find(|line| line.starts_with("some "))?;
    let average = some
        .split(' ')
        .find_map(|word| word.strip_prefix("avg10="))?;
    let (percent, hundredths) = average.split_once('.')?;
    let tenths = hundredths.get(..1)?.parse::<u32>().ok()?;
    let percent = percent.parse::<u32>().ok()?.min(100);
    Some(percent * 10 + tenths)
}

#[cfg(test)]
mod tests {
    use super::permille;

    #[test]
    fn pressure_is_read_in_thousandths() {
        let text = "some avg10=1.25 avg60=0.00 avg300=0.00 total=1\nfull avg10=9.00 avg60=0.00\n";
        assert_eq!(permille(text), Some(12));
        assert_eq!(permille("some avg10=100.00 avg60=0.00"), Some(1000));
        assert_eq!(permille("some avg60=0.00"), None);
        assert_eq!(permille(""), None);
    }
}
