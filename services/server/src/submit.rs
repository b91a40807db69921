//! Reading a submission: a bare matrix, or one with pins. May not: accept it; the actor does.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use regatta_model::Digest;
use regatta_model::matrix::Matrix;
use regatta_model::run::{Pins, Submission};

use crate::actor::NewSubmission;
use crate::answer::{Answer, Refusal};
use crate::app::App;
use crate::limits::{
    IDEMPOTENCY_KEY_MOST, MATRIX_BYTES_MOST, RUN_ATTEMPTS_MOST, SUBMISSION_BYTES_MOST,
};
use crate::{body, pins, shards};

/// A matrix with what its names meant.
const SUBMISSION: &str = "application/vnd.regatta.submission+json";

/// Longest name of a file that messages repeat, in bytes.
const FILE_BYTES_MOST: usize = 1024;

/// Reads, checks and completes what a client sent.
pub(crate) async fn read(app: &App, headers: &HeaderMap, body: Body) -> Answer<NewSubmission> {
    let key = idempotency_key(headers)?;
    let kind = body::media_type(headers);
    let (submission, digest) = match kind.as_str() {
        SUBMISSION => {
            let bytes = body::read(body, SUBMISSION_BYTES_MOST, "SUBMISSION_BYTES_MOST").await?;
            let submission: Submission = serde_json::from_slice(&bytes)
                .map_err(|error| Refusal::bad(format!("the body is no submission: {error}")))?;
            (submission, Digest::of(&bytes))
        }
        "" | "application/json" | "application/yaml" | "application/x-yaml" | "text/yaml"
        | "text/x-yaml" => {
            let bytes = body::read(body, MATRIX_BYTES_MOST, "MATRIX_BYTES_MOST").await?;
            let digest = Digest::of(&bytes);
            let matrix = String::from_utf8(bytes.into())
                .map_err(|error| Refusal::bad(format!("the matrix is not UTF-8: {error}")))?;
            (
                Submission {
                    matrix,
                    file: "matrix".to_owned(),
                    pins: Pins::default(),
                },
                digest,
            )
        }
        other => {
            return Err(body::unsupported(
                other,
                &format!("application/json, application/yaml or {SUBMISSION}"),
            ));
        }
    };
    complete(app, submission, key, digest).await
}

/// A submission again, as it was recorded.
pub(crate) async fn again(app: &App, submission: Submission) -> Answer<NewSubmission> {
    let body = Digest::of_canonical(&submission);
    complete(app, submission, None, body).await
}

/// A submission of the server itself; `body` is its digest.
pub(crate) async fn keyed(
    app: &App,
    submission: Submission,
    key: String,
    body: Digest,
) -> Answer<NewSubmission> {
    complete(app, submission, Some(key), body).await
}

async fn complete(
    app: &App,
    submission: Submission,
    idempotency_key: Option<String>,
    body: Digest,
) -> Answer<NewSubmission> {
    let Submission {
        matrix: source,
        mut file,
        pins,
    } = submission;
    if source.len() > MATRIX_BYTES_MOST {
        let most = u64::try_from(MATRIX_BYTES_MOST).unwrap_or(u64::MAX);
        return Err(Refusal::too_large("the matrix", most, "MATRIX_BYTES_MOST"));
    }
    if file.is_empty() || file.len() > FILE_BYTES_MOST || file.chars().any(char::is_control) {
        "matrix".clone_into(&mut file);
    }
    let parsed = tokio::task::spawn_blocking(move || {
        let parsed = Matrix::parse(&source, &file);
        (parsed, source, file)
    });
    let (parsed, source, file) = parsed.await.map_err(|error| {
        Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "",
            format!("the matrix was not read: {error}"),
        )
    })?;
    let matrix = parsed.map_err(|errors| pins::wrong_matrix(&errors))?;
    let attempts = matrix
        .cells()
        .count()
        .saturating_mul(matrix.repeat().into());
    if attempts > RUN_ATTEMPTS_MOST {
        return Err(Refusal::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "limit",
            format!(
                "the matrix asks for {attempts} attempts at least, and a run has {RUN_ATTEMPTS_MOST} at most (limit \
                 RUN_ATTEMPTS_MOST): give an axis fewer values, or submit it in parts"
            ),
        ));
    }
    let plans = shards::plans(app, &matrix, &pins).await;
    let mut pins = pins::complete(app, &matrix, pins).await?;
    pins.shards = plans;
    let (images, pinned) = (app.images.clone(), pins.clone());
    let holds = tokio::task::spawn_blocking(move || pins::hold(&images, &pinned))
        .await
        .unwrap_or_default();
    Ok(NewSubmission {
        source,
        file,
        matrix: Arc::new(matrix),
        pins,
        holds,
        idempotency_key,
        body,
    })
}

/// The client's key, with or without the quotes that the draft of the header wants.
fn idempotency_key(headers: &HeaderMap) -> Answer<Option<String>> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let wrong = || {
        Refusal::bad(format!(
            "the Idempotency-Key must be 1 to {IDEMPOTENCY_KEY_MOST} visible ASCII characters"
        ))
    };
    let key = value
        .to_str()
        .map_err(|_| wrong())?
        .trim()
        .trim_matches('"');
    if key.is_empty() || key.len() > IDEMPOTENCY_KEY_MOST {
        return Err(wrong());
    }
    Ok(Some(key.to_owned()))
}
