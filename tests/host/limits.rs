//! Limits that bite, and what is said when they do.

use std::fs;

use regatta_model::container::{Ending, Request, Writable};

use crate::kit::{Host, MIB, until};

#[test]
fn the_memory_limit_ends_a_program_and_is_told_apart() {
    let host = Host::start();
    let mut spec = host.spec(&["/probe", "allocate", "268435456"]);
    spec.limits.memory_bytes = Some(64 * MIB);
    let done = host.run(&spec);
    assert_eq!(done.ended.ending, Ending::OutOfMemory, "{}", done.output);
    assert!(done.ended.oom_kills >= 1);
    assert!(
        done.ended.peak_memory_bytes <= 64 * MIB,
        "{}",
        done.ended.peak_memory_bytes
    );
    // 0 is what a kernel says that keeps no peak.
    let peak = done.ended.peak_memory_bytes;
    assert!(peak == 0 || peak > 32 * MIB, "{peak}");
    // Within the limit it lives.
    let mut spec = host.spec(&["/probe", "allocate", "33554432"]);
    spec.limits.memory_bytes = Some(64 * MIB);
    assert_eq!(host.run(&spec).output(), "allocated 33554432\n");
    // Any other signal is not the memory's, and neither is an end by 0 after a child's.
    assert_eq!(
        host.run(&host.shell("kill -KILL $$")).ended.ending,
        Ending::Signaled { signal: 9 }
    );
    let mut spec = host.shell("/probe allocate 268435456; true");
    spec.limits.memory_bytes = Some(64 * MIB);
    let done = host.run(&spec);
    assert_eq!(done.ended.ending, Ending::Exited { code: 0 });
    assert!(done.ended.oom_kills >= 1);
}

#[test]
fn a_writable_layer_in_memory_counts_as_memory() {
    let host = Host::start();
    let mut spec =
        host.shell("dd if=/dev/zero of=/big bs=1M count=200 2>/dev/null && echo written");
    spec.limits.memory_bytes = Some(64 * MIB);
    spec.limits.disk_bytes = Some(256 * MIB);
    let done = host.run(&spec);
    assert!(!done.output.contains("written"), "{:?}", done.ended);
    assert!(done.ended.peak_memory_bytes <= 64 * MIB);
}

#[test]
fn the_process_limit_stops_a_fork_bomb() {
    let host = Host::start();
    let mut spec = host.spec(&["/probe", "crowd"]);
    spec.limits.processes = Some(24);
    let text = host.run(&spec).output();
    // EAGAIN; init and the program count too.
    let count: u32 = text.split(' ').next().unwrap().parse().unwrap();
    assert!(
        text.ends_with("errno 11\n") && (20..=23).contains(&count),
        "{text}"
    );
    // A real one: the executor still answers, and all of it ends with the container.
    let mut spec = host.shell("bomb() { bomb | bomb & }; bomb; usleep 300000; echo over");
    spec.limits.processes = Some(24);
    host.order(&spec);
    assert_eq!(host.sh("echo others live"), "others live\n");
    host.wait(&spec);
    assert_eq!(host.sh("echo still"), "still\n");
}

#[test]
fn the_disk_limit_is_no_space_left() {
    let host = Host::start();
    let write =
        "dd if=/dev/zero of=/big bs=1M count=64 2>&1 | grep -o 'No space left.*'; stat -c %s /big";
    let mut spec = host.shell(write);
    spec.limits.disk_bytes = Some(16 * MIB);
    let lines = host.run(&spec).lines();
    assert_eq!(lines[0], "No space left on device");
    let size: u64 = lines[1].parse().unwrap();
    assert!((8 * MIB..=17 * MIB).contains(&size), "{size}");
    // On a host's disk without quotas the layer is measured now and then, and its container ended.
    let mut spec = host.shell(&format!("{write}; sleep 1000"));
    spec.limits.disk_bytes = Some(16 * MIB);
    spec.writable = Writable::Disk;
    let done = host.run(&spec);
    if !done.output.starts_with("No space left") {
        assert_eq!(
            done.ended.ending,
            Ending::Signaled { signal: 25 },
            "{}",
            done.output
        );
        assert!(
            done.notes.iter().any(|note| note.contains("limits.disk")),
            "{:?}",
            done.notes
        );
    }
}

#[test]
fn empty_files_are_limited_too() {
    let host = Host::start();
    let mut spec = host.shell(
        "mkdir /many; i=0; while [ $i -lt 200000 ]; do (: > /many/$i) 2>/dev/null || break; i=$((i+1)); done; echo $i",
    );
    spec.limits.disk_bytes = Some(4 * MIB);
    let text = host.run(&spec).output();
    let made: u32 = text.trim().parse().unwrap_or_else(|_| panic!("{text}"));
    assert!(made < 100_000, "{made} files in 4 MiB");
}

#[test]
fn the_file_limit_is_too_many_open_files() {
    let host = Host::start();
    let mut spec = host.spec(&["/probe", "open", "/dev/null"]);
    spec.limits.files = Some(100);
    // EMFILE, after standard input, output and error.
    assert_eq!(host.run(&spec).output(), "97 files, then errno 24\n");
    let raised = host.sh("ulimit -n 100000 2>/dev/null || echo refused; ulimit -Hn");
    assert_eq!(raised, "refused\n256\n");
}

#[test]
fn the_output_limit_drops_the_middle_and_says_so() {
    let host = Host::start();
    let mut spec =
        host.shell("echo first; yes 0123456789abcde | head -c 20000000; echo last; echo bad >&2");
    spec.limits.output_bytes = 100_000;
    let done = host.run(&spec);
    assert_eq!(done.ended.ending, Ending::Exited { code: 0 });
    assert_eq!(done.ended.output_bytes, 6 + 20_000_000 + 5 + 4);
    assert!(done.ended.output_dropped >= 19_800_000, "{:?}", done.ended);
    assert!(
        done.output.starts_with("first\n"),
        "{}",
        &done.output[..100]
    );
    assert!(done.output.contains("last\n") && done.output.contains("bad\n"));
    assert!(done.output.len() < 110_000, "{}", done.output.len());
    assert_eq!(done.notes.len(), 1, "{:?}", done.notes);
    let dropped = done.ended.output_dropped.to_string();
    assert!(
        done.notes[0]
            .replace([',', '_', ' '], "")
            .contains(&dropped),
        "{:?}",
        done.notes
    );
    let size = fs::metadata(&spec.log).unwrap().len();
    assert!(size < 400_000, "the log holds {size} bytes");
}

#[test]
fn the_processor_limit_slows_down() {
    let host = Host::start();
    let mut spec = host.spec(&["/probe", "spin", "200"]);
    spec.limits.cpu_millis = Some(100);
    let done = host.run(&spec);
    assert_eq!(done.ended.ending, Ending::Exited { code: 0 });
    // 200 ms of a tenth of a processor; the first period and slices of others' quota are free.
    assert!(done.ended.wall_ms >= 900, "{:?}", done.ended);
    assert!(done.ended.cpu_us >= 190_000, "{:?}", done.ended);
}

#[test]
fn the_timeout_ends_all_that_was_started() {
    let host = Host::start();
    let mark = format!("98765.{}", std::process::id());
    let mut spec = host.shell(&format!(
        "trap '' TERM; (setsid sh -c 'trap \"\" TERM HUP INT; sleep {mark}' &); \
         (setsid sh -c 'trap \"\" TERM; while :; do usleep 1000; done' &); echo up; sleep {mark}"
    ));
    (spec.timeout_ms, spec.grace_ms) = (400, 100);
    let done = host.run(&spec);
    assert_eq!(done.ended.ending, Ending::TimedOut);
    assert_eq!(done.output, "up\n");
    assert!(done.ended.wall_ms >= 400, "{:?}", done.ended);
    assert_eq!(with_argument(&mark), 0, "something outlived the timeout");
    // The grace is for those who listen to SIGTERM.
    let mut spec = host.shell("trap 'echo bye; exit 3' TERM; while :; do usleep 1000; done");
    (spec.timeout_ms, spec.grace_ms) = (200, 20_000);
    let done = host.run(&spec);
    assert_eq!(
        (done.ended.ending, done.output.as_str()),
        (Ending::TimedOut, "bye\n")
    );
    assert!(done.ended.wall_ms < 20_000);
    // One that is stopped ends as well.
    let mut spec = host.shell("kill -STOP $$");
    (spec.timeout_ms, spec.grace_ms) = (200, 100);
    assert_eq!(host.run(&spec).ended.ending, Ending::TimedOut);
}

#[test]
fn the_end_of_the_program_ends_what_it_left() {
    let host = Host::start();
    let mark = format!("87654.{}", std::process::id());
    let done = host.run(&host.shell(&format!(
        "(trap '' TERM HUP; setsid sleep {mark} &) ; exit 4"
    )));
    assert_eq!(done.ended.ending, Ending::Exited { code: 4 });
    assert_eq!(with_argument(&mark), 0, "something outlived its program");
}

#[test]
fn a_stop_and_a_lost_lease_end_a_container() {
    let host = Host::start();
    let share = host.make("share");
    let mut spec = host.shell("trap '' TERM; touch /share/up; while :; do usleep 1000; done");
    spec.mounts.push(host.mount(&share, "/share", true));
    host.order(&spec);
    until("it is up", || share.join("up").exists());
    host.ask(Request::Stop {
        id: spec.id.clone(),
    });
    assert_eq!(host.wait(&spec).ended.ending, Ending::Stopped);
    let mut spec = host.shell("while :; do usleep 1000; done");
    spec.lease_ms = Some(300);
    assert_eq!(host.run(&spec).ended.ending, Ending::LeaseEnded);
}

/// How many processes of the host have this among their arguments.
fn with_argument(mark: &str) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| {
            line.split(|byte| *byte == 0)
                .any(|word| word == mark.as_bytes())
        })
        .count()
}
