//! A run beside another one, which ran at another time.

use regatta_model::AttemptId;
use regatta_model::report::{Against, AgainstKind, Report};
use regatta_model::run::RunSummary;
use regatta_model::wire::EndedAttempt;
use reqwest::StatusCode;

use crate::kit::{Agent, Api, Running, cases, finish, fresh, http, problem};

fn matrix(values: &str) -> String {
    format!(
        "name: small\nimage: mini:1\naxes:\n  n: [{values}]\ntest: {{run: 'true'}}\nrepeat: 4\n"
    )
}

/// Runs a matrix to its end; `failing` says what fails in which attempt of which value.
async fn ended(
    server: &Running,
    matrix: &str,
    failing: impl Fn(&str, u32) -> &'static [&'static str],
) -> RunSummary {
    let run = server.api.submit(matrix).await;
    let mut agents = [
        Agent::new(&server.api, "one", 4),
        Agent::new(&server.api, "two", 4),
    ];
    let values: Vec<String> = server.api.report(&run).await.axes[0].values.clone();
    let end = |agent: &Agent, id: &AttemptId| {
        let value = &values[usize::try_from(id.cell).unwrap()];
        let failing = failing(value, id.ordinal);
        EndedAttempt {
            results: cases(failing),
            ..agent.end(id, i32::from(!failing.is_empty()))
        }
    };
    finish(&mut agents, &run, end).await
}

async fn against(api: &Api, run: &RunSummary, other: &RunSummary) -> Against {
    let path = format!("api/v1/runs/{}/report?against={}", run.run, other.run);
    let report: Report = api.json(&path).await;
    report.against.unwrap()
}

fn changes(against: &Against) -> Vec<(AgainstKind, Option<&str>, &[u64])> {
    let changes = against.changes.iter();
    changes
        .map(|change| (change.kind, change.case.as_deref(), change.cells.as_slice()))
        .collect()
}

#[tokio::test]
async fn what_broke_and_what_was_mended_between_two_runs_is_told_and_chance_is_not() {
    let (_data, server) = fresh(5000).await;
    // Before: `test_a` fails for good in 1, `test_c` once of four times in 2, and nothing in 3.
    let before = ended(&server, &matrix("1, 2, 3"), |value, ordinal| match value {
        "1" => &["test_a"],
        "2" if ordinal == 1 => &["test_c"],
        _ => &[],
    })
    .await;
    // Now: `test_b` fails for good in 2 and 3, `test_c` once in 3, and 4 is new.
    let now = ended(
        &server,
        &matrix("4, 3, 2, 1"),
        |value, ordinal| match value {
            "3" if ordinal == 1 => &["test_b", "test_c"],
            "2" | "3" => &["test_b"],
            _ => &[],
        },
    )
    .await;
    let told = against(&server.api, &now, &before).await;
    let expected = [
        (AgainstKind::Regressed, Some("test_b"), &[1, 2][..]),
        (AgainstKind::Unresolved, Some("test_c"), &[1][..]),
        (AgainstKind::Fixed, Some("test_a"), &[3][..]),
    ];
    assert_eq!(changes(&told), expected, "{told:#?}");
    assert_eq!((told.cells, told.only_here, told.only_there), (3, 1, 0));
    assert!(told.changes[0].probability > 0.99);
    let said = "1 broke, 1 may have broken, 1 no longer fail";
    assert!(told.sentence.contains(said), "{}", told.sentence);
    // The other way round.
    let told = against(&server.api, &before, &now).await;
    let kinds: Vec<AgainstKind> = told.changes.iter().map(|change| change.kind).collect();
    let expected = [
        AgainstKind::Regressed,
        AgainstKind::Unresolved,
        AgainstKind::Fixed,
    ];
    assert_eq!(kinds, expected, "{told:#?}");
    assert_eq!((told.only_here, told.only_there), (0, 1));
}

#[tokio::test]
async fn what_fails_in_both_is_no_news() {
    let (_data, server) = fresh(5000).await;
    let fails = |_: &str, _| -> &'static [&'static str] { &["test_a"] };
    let before = ended(&server, &matrix("1, 2"), fails).await;
    let now = ended(&server, &matrix("1, 2"), fails).await;
    let told = against(&server.api, &now, &before).await;
    assert_eq!((told.changes.len(), told.alike), (0, 2), "{told:#?}");
    assert!(
        told.sentence.contains("nothing is different"),
        "{}",
        told.sentence
    );
}

#[tokio::test]
async fn what_cannot_be_compared_is_refused_with_the_reason() {
    let (_data, server) = fresh(5000).await;
    let passes = |_: &str, _| -> &'static [&'static str] { &[] };
    let one = ended(&server, &matrix("1"), passes).await;
    let other = ended(&server, &matrix("2"), passes).await;
    let refused = async |against: &str| {
        let path = format!("api/v1/runs/{}/report?against={against}", one.run);
        let response = http().get(server.api.url(&path)).send().await.unwrap();
        let status = response.status();
        (status, problem(response).await.detail)
    };
    let (status, why) = refused(other.run.as_str()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(why.contains("shares no cell with"), "{why}");
    let (status, why) = refused(one.run.as_str()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(why.contains("is the same run"), "{why}");
    let (status, _) = refused("01zzzzzzzzzzzzz").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}
