//! What the kernel says of its host's troubles (https://docs.kernel.org/admin-guide/ABI/testing/dev-kmsg.html). May not:
//! wait, or fail; where the log cannot be read there is nothing to tell.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;

use regatta_model::wire::{KERNEL_LINE_MOST, Kernel};

/// Longest record that the kernel gives, in bytes; a shorter buffer is an error.
const RECORD_MOST: usize = 8192;
/// Records that one look reads at most; the others wait for the next.
const RECORDS_MOST: u32 = 2000;

/// The log from the agent's start on.
#[derive(Debug)]
pub struct KernelLog {
    file: Option<File>,
    found: Kernel,
}

impl KernelLog {
    /// Begins with what comes next.
    pub fn open() -> Self {
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(nonblocking)
            .open("/dev/kmsg");
        let at_end = |mut file: File| file.seek(SeekFrom::End(0)).map(|_| file);
        Self {
            file: opened.and_then(at_end).ok(),
            found: Kernel::default(),
        }
    }

    /// Reads what is new; gives all that was found so far, none where the log cannot be read.
    pub fn look(&mut self) -> Option<Kernel> {
        let mut buffer = vec![0; RECORD_MOST];
        for _ in 0..RECORDS_MOST {
            match self.file.as_mut()?.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => take(&mut self.found, buffer.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // Records were overwritten before they were read (EPIPE): the next read goes on behind them.
                Err(error)
                    if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::Interrupted) => {}
                Err(_) => {
                    self.file = None;
                }
            }
        }
        Some(self.found.clone())
    }
}

/// Takes in one record: `priority,number,time,flags;text`, with further lines that begin with a blank.
fn take(found: &mut Kernel, record: &[u8]) {
    let record = String::from_utf8_lossy(record);
    let Some((head, text)) = record.split_once(';') else {
        return;
    };
    // What was written by programs (facility above 0) is not the kernel's word.
    let priority = head.split(',').next().and_then(|text| text.parse().ok());
    if priority.is_none_or(|priority: u32| priority >= 8) {
        return;
    }
    let line = text.lines().next().unwrap_or_default();
    let any = |words: &[&str]| words.iter().any(|word| line.contains(word));
    let count = if any(&["blocked for more than"]) {
        &mut found.hung_tasks
    } else if any(&["Machine check", "machine check", "[Hardware Error]"]) {
        &mut found.machine_checks
    } else if any(&["I/O error"]) {
        &mut found.io_errors
    } else if line.starts_with("Out of memory:") {
        // A limit's own is "Memory cgroup out of memory:".
        &mut found.out_of_memory
    } else {
        return;
    };
    *count += 1;
    line.get(..line.floor_char_boundary(KERNEL_LINE_MOST))
        .unwrap_or_default()
        .clone_into(&mut found.last);
}

#[cfg(test)]
mod tests {
    use super::{Kernel, take};

    #[test]
    fn troubles_are_counted_by_kind_and_the_rest_is_not() {
        let mut found = Kernel::default();
        for record in [
            "6,1,5,-;usb 1-1: new device",
            "3,2,5,-;INFO: task dd:77 blocked for more than 120 seconds.\n SUBSYSTEM=x",
            "2,3,5,-;mce: [Hardware Error]: CPU 0: Machine Check: 0 Bank 4: b2",
            "3,4,5,-;blk_update_request: I/O error, dev sda, sector 8",
            "3,5,5,-;Buffer I/O error on dev sda1, logical block 1",
            "3,6,5,-;Memory cgroup out of memory: Killed process 5 (sh)",
            "12,7,5,-;a program says: I/O error",
            "no record",
        ] {
            take(&mut found, record.as_bytes());
        }
        assert_eq!(
            (found.hung_tasks, found.machine_checks, found.io_errors),
            (1, 1, 2)
        );
        assert_eq!(found.out_of_memory, 0, "that is a container's");
        assert_eq!(found.last, "Buffer I/O error on dev sda1, logical block 1");
        let long = format!(
            "3,8,5,-;Out of memory: Killed process 7 ({})",
            "x".repeat(500)
        );
        take(&mut found, long.as_bytes());
        assert_eq!((found.out_of_memory, found.last.len()), (1, 200));
    }
}
