//! What a matrix's names mean, where the client did not say: images of this server's own store, or of a registry. May
//! not: look at a path; a path means something on the client's machine only.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use prometheus_client::metrics::counter::Counter;
use regatta_image::reference::Reference;
use regatta_image::registry::{Client, Options};
use regatta_image::store::Hold;
use regatta_image::{Progress, Task};
use regatta_model::Digest;
use regatta_model::matrix::{Diagnostics, Matrix};
use regatta_model::run::Pins;

use crate::answer::{Answer, Refusal};
use crate::app::App;
use crate::limits::PINS_MOST;

/// Counts what is pulled.
struct Counting(Counter);

impl Progress for Counting {
    fn begin(&self, _: &str, _: Option<u64>) -> Box<dyn Task> {
        Box::new(Self(self.0.clone()))
    }
}

impl Task for Counting {
    fn advance(&self, bytes: u64) {
        self.0.inc_by(bytes);
    }

    fn finish(&self) {}
}

fn unprocessable(detail: String) -> Refusal {
    Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "image", detail)
}

/// A wrong matrix as a problem that points to the place.
pub(crate) fn wrong_matrix(errors: &Diagnostics) -> Refusal {
    let refusal = Refusal::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "matrix",
        errors.render(false),
    );
    let refusal = refusal.titled("The matrix is wrong");
    match errors.first() {
        Some(first) if first.line > 0 => {
            let column = (first.column > 0).then_some(first.column);
            refusal.at(Some(first.line), column, Some(first.pointer.clone()))
        }
        Some(first) if !first.pointer.is_empty() => {
            refusal.at(None, None, Some(first.pointer.clone()))
        }
        _ => refusal,
    }
}

/// Whether an `image` is a path rather than a name: as in shells, it begins with `.` or `/`.
fn is_path(name: &str) -> bool {
    name.starts_with("./")
        || name.starts_with("../")
        || name.starts_with('/')
        || name == "."
        || name == ".."
}

/// Fills in the pins that are missing, and sees to it that everything pinned is in the server's store.
pub(crate) async fn complete(app: &App, matrix: &Matrix, given: Pins) -> Answer<Pins> {
    let images = matrix
        .images(PINS_MOST)
        .map_err(|errors| wrong_matrix(&errors))?;
    let files = matrix
        .file_sources(PINS_MOST)
        .map_err(|errors| wrong_matrix(&errors))?;
    let mut pins = Pins::default();
    for name in images {
        let digest = match given.images.get(&name) {
            Some(digest) => present(app, &name, *digest)?,
            None => find(app, &name).await?,
        };
        pins.images.insert(name, digest);
    }
    for from in files {
        let Some(digest) = given.files.get(&from) else {
            return Err(unprocessable(format!(
                "`files` copies {from:?}, which is on the client's machine only: hand the matrix in with \
                 `regatta submit`, which sends the files along"
            )));
        };
        pins.files
            .insert(from.clone(), present(app, &from, *digest)?);
    }
    Ok(pins)
}

fn present(app: &App, name: &str, digest: Digest) -> Answer<Digest> {
    if app.images.has(&digest) {
        return Ok(digest);
    }
    Err(unprocessable(format!(
        "{name:?} is pinned to {digest}, which is not in this server's store: push it first (`regatta submit` does)"
    )))
}

/// The digest of an image that the client only named.
async fn find(app: &App, name: &str) -> Answer<Digest> {
    if is_path(name) {
        return Err(unprocessable(format!(
            "the image {name:?} is a path on the client's machine: hand the matrix in with `regatta submit`, which \
             builds the image and sends it along"
        )));
    }
    if let Some(digest) = app.images.resolve(name) {
        return Ok(digest);
    }
    let reference = Reference::parse(name)
        .map_err(|error| unprocessable(format!("the image {name:?}: {error}")))?;
    let failed = |error: regatta_image::Error| {
        unprocessable(format!(
            "the image {name:?} is not in this server's store and could not be pulled: {error}; push it, or import it \
             on the server"
        ))
    };
    let client = Client::new(Options::default()).map_err(failed)?;
    let (images, counting) = (
        app.images.clone(),
        Counting(app.metrics.image_pull_bytes.clone()),
    );
    // On a thread of its own: the client's future may not move between threads.
    let runtime = tokio::runtime::Handle::current();
    let pulled = tokio::task::spawn_blocking(move || {
        runtime.block_on(client.pull(&images, &reference, &counting))
    });
    pulled
        .await
        .map_err(|error| unprocessable(format!("the image {name:?} was not pulled: {error}")))?
        .map_err(failed)
}

/// Keeps everything pinned from being pruned, for as long as the holds live. What is gone already cannot be held; its
/// attempts will say so.
pub(crate) fn hold(images: &regatta_image::Store, pins: &Pins) -> Vec<Hold> {
    let files = pins.files.values().chain(pins.shards.values());
    let all: BTreeSet<&Digest> = pins.images.values().chain(files).collect();
    all.iter()
        .filter_map(|digest| images.hold(digest).ok())
        .collect()
}
