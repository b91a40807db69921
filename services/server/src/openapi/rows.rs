//! The operations of the API, one row each. May not: know how a document is made of them.

use utoipa::openapi::path::HttpMethod;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";
const BYTES: &str = "application/octet-stream";

/// A body: its media type and its schema.
pub(super) type Body = (&'static str, Option<&'static str>);

/// One operation.
pub(super) struct Row {
    pub(super) method: HttpMethod,
    pub(super) path: &'static str,
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) query: &'static [&'static str],
    /// Headers that change what is done.
    pub(super) headers: &'static [&'static str],
    pub(super) takes: &'static [Body],
    pub(super) status: u16,
    pub(super) gives: Option<Body>,
}

/// A shorthand for rows without a body.
const fn row(
    method: HttpMethod,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
) -> Row {
    Row {
        method,
        path,
        id,
        summary,
        query: &[],
        headers: &[],
        takes: &[],
        status: 200,
        gives: None,
    }
}

const ATTEMPT_LOG: &str = "/api/v1/runs/{run}/cells/{cell}/attempts/{attempt}/log";
const UPLOAD: &str = "/api/v1/runs/{run}/cells/{cell}/attempts/{attempt}/upload";
const ARTIFACTS: &str = "/api/v1/runs/{run}/cells/{cell}/attempts/{attempt}/artifacts";
const ARTIFACT: &str = "/api/v1/runs/{run}/cells/{cell}/attempts/{attempt}/artifacts/{path}";

pub(super) fn rows() -> Vec<Row> {
    let mut rows = of_runs();
    rows.extend(of_cells());
    rows.extend(of_the_rest());
    rows
}

/// A JSON answer of this schema; `[NAME]` is a list.
#[expect(
    clippy::unnecessary_wraps,
    reason = "it is the value of an optional field"
)]
const fn json_of(schema: &'static str) -> Option<Body> {
    Some((JSON, Some(schema)))
}

fn of_runs() -> Vec<Row> {
    use HttpMethod::{Get, Post};
    vec![
        Row {
            query: &["limit", "before"],
            gives: json_of("[RunSummary]"),
            ..row(Get, "/api/v1/runs", "listRuns", "Runs, the newest first")
        },
        Row {
            headers: &["Idempotency-Key"],
            takes: &[
                (
                    "application/vnd.regatta.submission+json",
                    Some("Submission"),
                ),
                (JSON, None),
                ("application/yaml", None),
            ],
            status: 201,
            gives: json_of("RunSummary"),
            ..row(
                Post,
                "/api/v1/runs",
                "submitRun",
                "Hand in a matrix; Idempotency-Key is honoured",
            )
        },
        Row {
            gives: json_of("RunSummary"),
            ..row(Get, "/api/v1/runs/{run}", "getRun", "Where a run stands")
        },
        Row {
            gives: json_of("Explanation"),
            ..row(
                Get,
                "/api/v1/runs/{run}/explain",
                "explainRun",
                "Why something of a run waits",
            )
        },
        Row {
            gives: json_of("Submission"),
            ..row(
                Get,
                "/api/v1/runs/{run}/submission",
                "getSubmission",
                "What a run was submitted as",
            )
        },
        Row {
            query: &["against"],
            gives: json_of("Report"),
            ..row(
                Get,
                "/api/v1/runs/{run}/report",
                "getReport",
                "What a run concluded; with against=RUN also what is new beside that run",
            )
        },
        Row {
            gives: json_of("Searches"),
            ..row(
                Get,
                "/api/v1/runs/{run}/bisection",
                "getBisection",
                "What the searches for where a run's regressions began came to, so far",
            )
        },
        Row {
            headers: &["Last-Event-ID"],
            gives: Some(("text/event-stream", Some("RunEvent"))),
            ..row(
                Get,
                "/api/v1/runs/{run}/events",
                "streamEvents",
                "What happens to a run; Last-Event-ID resumes",
            )
        },
        Row {
            gives: json_of("RunSummary"),
            ..row(Post, "/api/v1/runs/{run}/cancel", "cancelRun", "End a run")
        },
        Row {
            query: &["failed", "until_resolved"],
            headers: &["Idempotency-Key"],
            gives: json_of("RunSummary"),
            ..row(
                Post,
                "/api/v1/runs/{run}/rerun",
                "rerunRun",
                "Run again: with failed=true what did not pass, with until_resolved=true what is unresolved, in the same run; else all, as a new one (201)",
            )
        },
    ]
}

fn of_cells() -> Vec<Row> {
    use HttpMethod::{Get, Post, Put};
    vec![
        Row {
            query: &["after", "limit"],
            gives: json_of("[CellReport]"),
            ..row(
                Get,
                "/api/v1/runs/{run}/cells",
                "listCells",
                "Cells by number; Link names the next page",
            )
        },
        Row {
            gives: json_of("CellReport"),
            ..row(
                Get,
                "/api/v1/runs/{run}/cells/{cell}",
                "getCell",
                "One cell",
            )
        },
        Row {
            gives: json_of("AttemptPlan"),
            ..row(
                Get,
                "/api/v1/runs/{run}/cells/{cell}/plan",
                "getPlan",
                "What an attempt of a cell is made from",
            )
        },
        Row {
            query: &["format"],
            gives: Some((TEXT, None)),
            ..row(
                Get,
                ATTEMPT_LOG,
                "getLog",
                "An ended attempt's output; format=raw as it is stored",
            )
        },
        Row {
            takes: &[("application/zstd", None)],
            status: 201,
            ..row(
                Put,
                ATTEMPT_LOG,
                "putLog",
                "For agents: a log that is too long for a sync",
            )
        },
        Row {
            takes: &[(JSON, Some("UploadRequest"))],
            gives: json_of("UploadPlace"),
            ..row(
                Post,
                UPLOAD,
                "placeUpload",
                "For agents: where a log or an artifact goes",
            )
        },
        Row {
            gives: json_of("[Artifact]"),
            ..row(Get, ARTIFACTS, "listArtifacts", "What an attempt left")
        },
        Row {
            gives: Some((BYTES, None)),
            ..row(Get, ARTIFACT, "getArtifact", "A file that an attempt left")
        },
        Row {
            takes: &[(BYTES, None)],
            status: 201,
            ..row(
                Put,
                ARTIFACT,
                "putArtifact",
                "For agents: a file that an attempt left",
            )
        },
    ]
}

fn of_the_rest() -> Vec<Row> {
    use HttpMethod::{Get, Post, Put};
    vec![
        Row {
            gives: json_of("[Host]"),
            ..row(Get, "/api/v1/hosts", "listHosts", "All hosts, by name")
        },
        Row {
            query: &["matrix", "case", "axis", "limit"],
            gives: json_of("History"),
            ..row(
                Get,
                "/api/v1/history",
                "getHistory",
                "How a case, or each cell, went over a matrix's finished runs",
            )
        },
        Row {
            query: &["matrix", "axis", "limit"],
            gives: json_of("FlakyCases"),
            ..row(
                Get,
                "/api/v1/flaky",
                "listFlaky",
                "Cases that both pass and fail, by transitions of each run",
            )
        },
        Row {
            query: &["older_than", "down_to", "dry_run"],
            gives: json_of("Pruned"),
            ..row(
                Post,
                "/api/v1/prune",
                "prune",
                "Remove runs that ended long ago",
            )
        },
        Row {
            takes: &[(JSON, Some("SetPolicy"))],
            gives: json_of("Host"),
            ..row(
                Put,
                "/api/v1/hosts/{host}/policy",
                "setPolicy",
                "Decide about a host",
            )
        },
        Row {
            takes: &[(JSON, Some("SyncRequest"))],
            gives: json_of("SyncResponse"),
            ..row(
                Post,
                "/api/v1/agents/sync",
                "sync",
                "For agents: say what is held and what ended, hear what to hold",
            )
        },
        row(Get, "/api/v1/openapi.json", "getOpenApi", "This document"),
        row(
            Get,
            "/api/v1/report.schema.json",
            "getReportSchema",
            "The JSON Schema of reports",
        ),
        row(
            Get,
            "/api/v1/matrix.schema.json",
            "getMatrixSchema",
            "The JSON Schema of matrix files",
        ),
        Row {
            gives: Some((TEXT, None)),
            ..row(Get, "/healthz", "getHealth", "Whether the server runs")
        },
        Row {
            gives: Some((TEXT, None)),
            ..row(Get, "/readyz", "getReadiness", "Whether it can work")
        },
        Row {
            gives: Some((TEXT, None)),
            ..row(Get, "/metrics", "getMetrics", "Metrics for Prometheus")
        },
        Row {
            gives: Some((TEXT, None)),
            ..row(
                Get,
                "/metrics/hosts",
                "getHostMetrics",
                "Metrics of each host",
            )
        },
    ]
}
