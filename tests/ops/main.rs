//! What operators use besides the command: installation, alert rules, dashboard. The real tools try them: promtool, and
//! a Prometheus that scrapes a real server.

mod dashboard;
mod install;

use std::process::Command;

use regatta_tests::command::{Done, root};

#[test]
fn the_alert_rules_hold_what_their_tests_say() {
    let directory = root().join("ops/prometheus");
    for arguments in [
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "rules_test.yml"],
    ] {
        let mut promtool = Command::new("promtool");
        promtool.args(arguments).current_dir(&directory);
        Done::of(&mut promtool).expect(0);
    }
}

#[test]
fn every_alert_has_a_test_that_fires_it() {
    let directory = root().join("ops/prometheus");
    let rules = std::fs::read_to_string(directory.join("rules.yml")).unwrap();
    let tests = std::fs::read_to_string(directory.join("rules_test.yml")).unwrap();
    let alerts: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() >= 8);
    for alert in alerts {
        let fired = tests.split("- eval_time").any(|test| {
            test.contains(&format!("alertname: {alert}\n")) && test.contains("exp_alerts")
        });
        assert!(fired, "no test in rules_test.yml fires {alert}");
    }
}
