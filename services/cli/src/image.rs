//! `image`: the store of this machine, archives, registries, building. May not: hold what the image crate does.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use regatta_daemon::builder::ExecutorRunner;
use regatta_image::Progress;
use regatta_image::archive::{Format, Import};
use regatta_image::build::{BuildError, BuildOptions};
use regatta_image::reference::Reference;
use regatta_image::registry;
use regatta_model::Digest;
use regatta_model::run::Pins;

use crate::args::{ArchiveFormat, BuildArgs, ImageArgs, ImageCommand};
use crate::client::Client;
use crate::context::{Context, Failure, key_value};
use crate::local::{self, Need};
use crate::output::print_json;
use crate::progress::Bars;

pub(crate) async fn image(context: &Context, options: ImageArgs) -> Result<ExitCode, Failure> {
    match options.command {
        ImageCommand::Ls => list(context),
        ImageCommand::Inspect { name } => {
            let inspected = context.images()?.inspect(&name).map_err(Failure::wrong)?;
            print_json(&inspected)?;
            Ok(ExitCode::SUCCESS)
        }
        ImageCommand::Tag { name, new } => {
            let store = context.images()?;
            let digest = store.require(&name).map_err(Failure::wrong)?;
            store.tag(&new, &digest).map_err(Failure::wrong)?;
            if context.global.json {
                print_json(&serde_json::json!({ "name": new, "digest": digest }))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        ImageCommand::Rm { names } => {
            let store = context.images()?;
            let mut removed = Vec::with_capacity(names.len());
            for name in names {
                let freed = store.remove(&name).map_err(Failure::wrong)?;
                context.say(format!("{name}: removed, {} freed", bytes(freed.bytes)));
                removed.push(serde_json::json!({ "name": name, "bytes": freed.bytes }));
            }
            if context.global.json {
                print_json(&removed)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        ImageCommand::Prune => {
            let freed = context.images()?.prune().map_err(Failure::platform)?;
            if context.global.json {
                print_json(&serde_json::json!({
                    "blobs": freed.blobs, "layers": freed.layers, "bytes": freed.bytes
                }))?;
            } else {
                anstream::println!(
                    "{} blobs and {} layers removed, {} freed",
                    freed.blobs,
                    freed.layers,
                    bytes(freed.bytes)
                );
            }
            Ok(ExitCode::SUCCESS)
        }
        ImageCommand::Pull {
            reference,
            plain_http,
        } => {
            let reference = Reference::parse(&reference).map_err(Failure::wrong)?;
            let digest = pull(context, &reference, plain_http, &Bars::new(context)).await?;
            tell(context, &reference.familiar(), &digest)
        }
        ImageCommand::Push {
            name,
            reference,
            plain_http,
        } => push(context, &name, reference.as_deref(), plain_http).await,
        ImageCommand::Import { file, name } => import(context, &file, name).await,
        ImageCommand::Load { file } => load(context, &file).await,
        ImageCommand::Save {
            names,
            output,
            format,
        } => save(context, names, output, format).await,
        ImageCommand::Build(options) => build_command(context, options).await,
        ImageCommand::Commit { run, cell, name } => {
            let work = async |client: &Client| crate::runs::resolve(client, &run).await;
            // Only `last` needs to be asked for: a kept layer is found by its run's id, whoever ran it.
            let id = if run == "last" {
                local::with(context, Need::Records, work).await?
            } else {
                run.clone()
            };
            let digest = crate::commit::commit_kept(context, &id, cell, &name)?;
            tell(context, &name, &digest)
        }
    }
}

fn tell(context: &Context, name: &str, digest: &Digest) -> Result<ExitCode, Failure> {
    if context.global.json {
        print_json(&serde_json::json!({ "name": name, "digest": digest.to_string() }))?;
    } else {
        anstream::println!("{digest}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Bytes as people say them, in binary units.
pub(crate) fn bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

fn list(context: &Context) -> Result<ExitCode, Failure> {
    let images = context.images()?.list().map_err(Failure::platform)?;
    if context.global.json {
        print_json(&images)?;
        return Ok(ExitCode::SUCCESS);
    }
    let width = images
        .iter()
        .map(|image| image.name.len())
        .max()
        .unwrap_or(0)
        .max(4)
        + 2;
    anstream::println!(
        "{:width$}{:<16}{:<14}{:>12}",
        "NAME",
        "DIGEST",
        "PLATFORM",
        "SIZE"
    );
    for image in images {
        let digest: String = image.digest.hex().chars().take(12).collect();
        anstream::println!(
            "{:width$}{digest:<16}{:<14}{:>12}",
            image.name,
            image.platform,
            bytes(image.size)
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn registry_client(plain_http: bool) -> Result<registry::Client, Failure> {
    registry::Client::new(registry::Options {
        plain_http,
        ..registry::Options::default()
    })
    .map_err(Failure::platform)
}

/// Fetches an image from a registry, and names it.
pub(crate) async fn pull(
    context: &Context,
    reference: &Reference,
    plain_http: bool,
    progress: &dyn Progress,
) -> Result<Digest, Failure> {
    let store = context.images()?;
    registry_client(plain_http)?
        .pull(&store, reference, progress)
        .await
        .map_err(Failure::platform)
}

async fn push(
    context: &Context,
    name: &str,
    reference: Option<&str>,
    plain_http: bool,
) -> Result<ExitCode, Failure> {
    let store = context.images()?;
    let digest = store.require(name).map_err(Failure::wrong)?;
    let reference = Reference::parse(reference.unwrap_or(name)).map_err(Failure::wrong)?;
    let client = registry_client(plain_http)?;
    client
        .push(&store, &digest, &reference, &Bars::new(context))
        .await
        .map_err(Failure::platform)?;
    tell(context, &reference.familiar(), &digest)
}

/// Work on archives hashes and unpacks: away from the threads that wait for others.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> regatta_image::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(Failure::platform)?
        .map_err(failure)
}

/// Whose doing an error of the image crate is: a name or an archive that is wrong is the command's.
fn failure(error: regatta_image::Error) -> Failure {
    match error {
        regatta_image::Error::NoImage { .. } | regatta_image::Error::Refused(_) => {
            Failure::wrong(error)
        }
        error => Failure::platform(error),
    }
}

/// An archive from a file; `-` is standard input.
fn archive(file: &Path) -> Result<Box<dyn Read + Send>, Failure> {
    if file == Path::new("-") {
        return Ok(Box::new(std::io::stdin()));
    }
    let opened = std::fs::File::open(file)
        .map_err(|error| Failure::wrong(format!("{}: {error}", file.display())))?;
    Ok(Box::new(opened))
}

async fn import(context: &Context, file: &Path, name: String) -> Result<ExitCode, Failure> {
    let store = context.images()?;
    let bars = Bars::new(context);
    let named = name.clone();
    let reader = archive(file)?;
    let digest = blocking(move || store.import(reader, &named, &Import::default(), &bars)).await?;
    tell(context, &name, &digest)
}

async fn load(context: &Context, file: &Path) -> Result<ExitCode, Failure> {
    let store = context.images()?;
    let bars = Bars::new(context);
    let reader = archive(file)?;
    let loaded = blocking(move || store.load(reader, &bars)).await?;
    if context.global.json {
        let list: Vec<_> = loaded
            .iter()
            .map(|image| serde_json::json!({ "names": image.names, "digest": image.digest.to_string() }))
            .collect();
        print_json(&list)?;
    } else {
        for image in loaded {
            anstream::println!("{} {}", image.digest, image.names.join(" "));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn save(
    context: &Context,
    names: Vec<String>,
    output: PathBuf,
    format: ArchiveFormat,
) -> Result<ExitCode, Failure> {
    let store = context.images()?;
    let format = match format {
        ArchiveFormat::Oci => Format::Oci,
        ArchiveFormat::Docker => Format::Docker,
    };
    let bars = Bars::new(context);
    blocking(move || store.save(&names, format, &output, &bars)).await?;
    Ok(ExitCode::SUCCESS)
}

/// A build as the command line or a matrix asks for it.
pub(crate) struct Building {
    pub(crate) directory: PathBuf,
    pub(crate) file: Option<PathBuf>,
    pub(crate) tag: Option<String>,
    pub(crate) args: Vec<(String, String)>,
    pub(crate) target: Option<String>,
    pub(crate) cache: bool,
}

impl Building {
    pub(crate) fn in_directory(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            file: None,
            tag: None,
            args: Vec::new(),
            target: None,
            cache: true,
        }
    }
}

async fn build_command(context: &Context, options: BuildArgs) -> Result<ExitCode, Failure> {
    let mut args = Vec::new();
    for arg in &options.build_arg {
        let (name, value) =
            key_value("build-arg", arg, "NAME=VALUE, like --build-arg VERSION=1.2")?;
        args.push((name.to_owned(), value.to_owned()));
    }
    let building = Building {
        directory: options.directory,
        file: options.file,
        tag: options.tag.clone(),
        args,
        target: options.target,
        cache: !options.no_cache,
    };
    let digest = build(context, building).await?;
    tell(context, options.tag.as_deref().unwrap_or_default(), &digest)
}

/// The Containerfile of a directory.
fn containerfile(directory: &Path) -> Result<PathBuf, Failure> {
    let names = ["Containerfile", "Dockerfile"];
    let found = names
        .iter()
        .map(|name| directory.join(name))
        .find(|path| path.is_file());
    found.ok_or_else(|| {
        Failure::wrong(format!(
            "{} has neither a Containerfile nor a Dockerfile; name one with --file",
            directory.display()
        ))
    })
}

/// Builds an image; steps run in this machine's executor.
pub(crate) async fn build(context: &Context, building: Building) -> Result<Digest, Failure> {
    let file = match building.file {
        Some(file) => file,
        None => containerfile(&building.directory)?,
    };
    let store = context.images()?;
    let holder = context.clone();
    let bars = Bars::new(context);
    let runtime = tokio::runtime::Handle::current();
    let work = move || -> Result<Digest, Failure> {
        let (layout, link) = holder.executor()?;
        let runner = ExecutorRunner::new(layout.clone(), link);
        let (pulled_into, pulling) = (store.clone(), &bars);
        let mut options =
            BuildOptions::new(&file, &building.directory, &layout.root().join("cache"));
        options.args = building.args.into_iter().collect();
        options.target = building.target;
        options.tags = building.tag.into_iter().collect();
        options.no_cache = !building.cache;
        options.pull = Some(Box::new(move |name| {
            let reference = Reference::parse(name)
                .map_err(|error| regatta_image::Error::Refused(error.to_string()))?;
            let client = registry::Client::new(registry::Options::default())?;
            runtime.block_on(client.pull(&pulled_into, &reference, pulling))
        }));
        regatta_image::build::build(&store, &options, &runner, &bars).map_err(|error| match error {
            BuildError::At(_) => Failure::wrong(error),
            BuildError::Image(error) => failure(error),
        })
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(Failure::platform)?
}

/// Repository names under which a server keeps what runs need.
const IMAGES: &str = "regatta/images";
const FILES: &str = "regatta/files";

/// Brings what a run needs to the server's store.
pub(crate) async fn bring(context: &Context, server: &Client, pins: &Pins) -> Result<(), Failure> {
    let Some(url) = server.server() else {
        return Ok(());
    };
    let host = url
        .host_str()
        .ok_or_else(|| Failure::wrong(format!("{url} names no host")))?;
    let port = url.port_or_known_default().unwrap_or(80);
    let store = context.images()?;
    let client = registry_client(url.scheme() == "http")?;
    let bars = Bars::new(context);
    for digest in pins.images.values() {
        let reference = Reference::parse(&format!("{host}:{port}/{IMAGES}@{digest}"))
            .map_err(Failure::platform)?;
        client
            .push(&store, digest, &reference, &bars)
            .await
            .map_err(Failure::platform)?;
    }
    for digest in pins.files.values() {
        let reference =
            Reference::parse(&format!("{host}:{port}/{FILES}")).map_err(Failure::platform)?;
        let path = store.blob_path(digest);
        client
            .push_blob(reference.repository(), &path, &bars)
            .await
            .map_err(Failure::platform)?;
    }
    Ok(())
}
