//! An image of what a container wrote: of one that ran by hand, or of a cell's that was kept. May not: make layers
//! itself.

use std::path::Path;

use regatta_daemon::{Layout, records};
use regatta_image::Store;
use regatta_model::Digest;

use crate::context::{Context, Failure};

/// An image of what a container wrote.
pub(crate) fn commit(
    store: &Store,
    base: &Digest,
    upper: &Path,
    created_by: &str,
) -> Result<Digest, Failure> {
    let epoch = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|text| text.parse().ok());
    let options = regatta_image::commit::Options {
        created_by: created_by.to_owned(),
        epoch,
    };
    regatta_image::commit::commit(store, base, upper, &options).map_err(Failure::platform)
}

/// Makes an image of the layer that a cell kept: the cell's image, its files, its set-up, and what its test wrote.
pub(crate) fn commit_kept(
    context: &Context,
    run: &str,
    cell: u64,
    name: &str,
) -> Result<Digest, Failure> {
    let layout = Layout::new(context.data());
    let kept = records::kept(&layout, run, cell).ok_or_else(|| {
        Failure::wrong(format!(
            "no container of cell {cell} of run {run} was kept on this machine; say `keep: on-failure` in its matrix"
        ))
    })?;
    let (record, upper) = kept;
    let store = context.images()?;
    let _work = store.work().map_err(Failure::platform)?;
    let mut image = record.plan.image;
    for layer in record.made_layers.iter().chain([&upper]) {
        image = commit(
            &store,
            &image,
            layer,
            &format!("regatta image commit {run} {cell}"),
        )?;
    }
    store.tag(name, &image).map_err(Failure::wrong)?;
    Ok(image)
}
