//! The same on a host with pure cgroup v2, which is a small virtual machine: machines for tests mostly mount v1.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::kit::{probe, regatta};

/// Checks whose answer depends on control groups or on the kernel's version; the machine is slow.
const CHECKS: [&str; 22] = [
    "namespaces::every_namespace_is_its_own",
    "namespaces::ids_are_a_range_that_no_other_container_has",
    "places::control_groups_cannot_be_mounted_or_written",
    "places::device_nodes_cannot_be_made_or_used",
    "places::devices_are_exactly_the_harmless_ones",
    "places::mounts_of_the_host_keep_their_mode",
    "places::the_kernels_switches_cannot_be_written",
    "places::what_changed_outside_the_declared_places_is_told",
    "places::what_tells_of_the_host_is_hidden",
    "powers::dangerous_calls_are_refused",
    "powers::namespaces_cannot_be_made_by_clone",
    "powers::roots_capabilities_are_dockers_default_set",
    "process::no_descriptor_comes_along",
    "limits::the_disk_limit_is_no_space_left",
    "limits::the_end_of_the_program_ends_what_it_left",
    "limits::the_memory_limit_ends_a_program_and_is_told_apart",
    "limits::the_process_limit_stops_a_fork_bomb",
    "limits::the_processor_limit_slows_down",
    "limits::the_timeout_ends_all_that_was_started",
    "leftovers::nothing_is_left_of_an_executor_that_ended",
    "leftovers::nothing_is_left_of_ended_containers",
    "leftovers::the_next_executor_ends_what_a_killed_one_left",
];

#[test]
fn cgroup_v2() {
    regatta_tests::need_root();
    let guest = tempfile::Builder::new()
        .prefix("regatta-guest.")
        .tempdir_in("/var/tmp")
        .unwrap();
    let root = guest.path();
    smaller(&regatta(), &root.join("regatta"));
    smaller(&std::env::current_exe().unwrap(), &root.join("checks"));
    // Where the checks look for it.
    let place = root.join(probe().strip_prefix("/").unwrap());
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::copy(probe(), place).unwrap();
    let boot = Path::new(env!("CARGO_MANIFEST_DIR")).join("host/vm/boot");
    let output = Command::new(boot)
        .arg(root)
        .args([
            "env",
            "REGATTA=/regatta",
            "REGATTA_GUEST=1",
            "RUST_BACKTRACE=0",
            "/checks",
            "--exact",
            "--test-threads=2",
        ])
        .args(CHECKS)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{text}\n{problems}",
        output.status
    );
    let all = format!("test result: ok. {} passed", CHECKS.len());
    assert!(text.contains(&all), "a check is missing: {text}");
}

/// A copy without what only debuggers read.
fn smaller(program: &Path, copy: &Path) {
    let stripped = Command::new("strip")
        .arg("-o")
        .arg(copy)
        .arg(program)
        .status();
    if !stripped.is_ok_and(|status| status.success()) {
        fs::copy(program, copy).unwrap();
    }
}
