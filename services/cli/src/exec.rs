//! `exec`: one container of an image, by hand. May not: make a container otherwise than attempts are made.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{SyncSender, sync_channel};

use regatta_daemon::exec::{self as container, STOP};
use regatta_daemon::mould::Program;
use regatta_image::reference::Reference;
use regatta_model::Digest;
use regatta_model::container::{Ended, Ending, Limits, Mount, Network};
use regatta_model::log::Stream;
use regatta_model::matrix::{parse_bytes, parse_cpu_millis, parse_duration_ms};
use regatta_model::plan::VolumePlan;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{ExecArgs, NetworkChoice};
use crate::commit::commit;
use crate::context::{Context, Failure, quantity};
use crate::progress::Bars;

/// The exit status where Regatta itself failed.
const FAILED: u8 = 125;
/// Bytes of output that pass through; a person's own terminal or pipe bounds the rest.
const OUTPUT_BYTES: u64 = 1 << 40;
/// Signals that wait for a container that is slow to take them.
const SIGNALS_MOST: usize = 16;

pub(crate) async fn exec(context: &Context, options: ExecArgs) -> Result<ExitCode, Failure> {
    match run(context, options).await {
        Ok(status) => Ok(ExitCode::from(status)),
        Err(failure) => Err(failure.with_status(FAILED)),
    }
}

/// The image's manifest: of this machine's store, else from its registry.
pub(crate) async fn find_image(context: &Context, name: &str) -> Result<Digest, Failure> {
    if let Some(digest) = context.images()?.resolve(name) {
        return Ok(digest);
    }
    let reference = Reference::parse(name).map_err(Failure::wrong)?;
    context.say(format!("{name} is not on this machine: pulling it"));
    crate::image::pull(context, &reference, false, &Bars::new(context)).await
}

async fn run(context: &Context, options: ExecArgs) -> Result<u8, Failure> {
    context.need_root()?;
    let name = options.commit.clone();
    let mut wanted = order(&options)?;
    wanted.image = find_image(context, &options.image).await?;
    let image = wanted.image;
    let store = context.images()?;
    let (sender, signals) = sync_channel(SIGNALS_MOST);
    let passing = tokio::spawn(pass_signals(sender));
    let holder = context.clone();
    let ended = tokio::task::spawn_blocking(move || {
        let (layout, link) = holder.executor()?;
        // On disk and beside the store: what is kept may be large, and becomes a layer there.
        let keep = match &name {
            Some(_) => Some(store.scratch().map_err(Failure::platform)?),
            None => None,
        };
        wanted.keep = keep.as_ref().map(|scratch| scratch.path().join("upper"));
        let mut output = |stream: Stream, bytes: &[u8]| match stream {
            Stream::Out => {
                let mut out = std::io::stdout().lock();
                out.write_all(bytes).and_then(|()| out.flush())
            }
            Stream::Err | Stream::Note => std::io::stderr().lock().write_all(bytes),
        };
        let ended = container::run(&layout, &store, &link, wanted, &mut output, &signals)
            .map_err(Failure::platform)?;
        if let (Some(name), Some(scratch)) = (name, keep)
            && matches!(ended.ending, Ending::Exited { code: 0 })
        {
            let _work = store.work().map_err(Failure::platform)?;
            let made = commit(
                &store,
                &image,
                &scratch.path().join("upper"),
                "regatta exec",
            )?;
            store.tag(&name, &made).map_err(Failure::wrong)?;
        }
        Ok(ended)
    });
    let ended = ended.await.map_err(Failure::platform)?;
    passing.abort();
    ended.map(|ended| status(context, &ended))
}

/// Passes SIGINT, SIGTERM, SIGHUP and SIGQUIT on to the container's program; a second SIGINT ends it.
async fn pass_signals(sender: SyncSender<i32>) -> Result<(), std::io::Error> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut interrupts = 0;
    loop {
        let number = tokio::select! {
            _ = interrupt.recv() => {
                interrupts += 1;
                if interrupts > 1 { STOP } else { SignalKind::interrupt().as_raw_value() }
            }
            _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = hangup.recv() => SignalKind::hangup().as_raw_value(),
            _ = quit.recv() => SignalKind::quit().as_raw_value(),
        };
        // A full queue means that the container hears none of them; more would not help.
        let _ = sender.try_send(number);
    }
}

/// What the options ask for, but for the image.
fn order(options: &ExecArgs) -> Result<container::Options, Failure> {
    let mut env = Vec::new();
    for text in &options.env {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (text.clone(), std::env::var(text).unwrap_or_default()),
        };
        env.push((name, value));
    }
    let (mut volumes, mut mounts) = (Vec::new(), Vec::new());
    for text in &options.volume {
        match volume(text)? {
            Volume::Named(volume) => volumes.push(volume),
            Volume::Directory(mount) => mounts.push(mount),
        }
    }
    let size = |option, text: &Option<String>| {
        quantity(option, text.as_deref(), "a size like 512MiB", parse_bytes)
    };
    let cpus = quantity(
        "cpus",
        options.cpus.as_deref(),
        "a number of processors like 1.5",
        parse_cpu_millis,
    )?;
    let timeout = quantity(
        "timeout",
        options.timeout.as_deref(),
        "a time like 10m or 300ms",
        parse_duration_ms,
    )?;
    Ok(container::Options {
        image: Digest::of(b""),
        layers: Vec::new(),
        program: Program::Arguments(options.command.clone()),
        env,
        user: options.user.clone(),
        workdir: options.workdir.clone(),
        network: match options.network {
            NetworkChoice::None => Network::None,
            NetworkChoice::Host => Network::Host,
        },
        volumes,
        mounts,
        limits: Limits {
            cpu_millis: cpus,
            memory_bytes: size("memory", &options.memory)?,
            processes: options.processes,
            disk_bytes: size("disk", &options.disk)?,
            files: options.files,
            output_bytes: size("output", &options.output)?.unwrap_or(OUTPUT_BYTES),
        },
        timeout_ms: timeout.unwrap_or(LONGEST_MS),
        keep: None,
    })
}

/// An option's quantity, above zero.
/// A year: whoever runs a container by hand ends it by hand.
const LONGEST_MS: u64 = 365 * 24 * 60 * 60 * 1000;

enum Volume {
    Named(VolumePlan),
    Directory(Mount),
}

/// `NAME:PATH[:MODE]`; a NAME that begins with `/` is a directory of this host.
fn volume(text: &str) -> Result<Volume, Failure> {
    let wrong = |why: &str| {
        Failure::wrong(format!(
            "--volume {text}: {why}; expected NAME:PATH or NAME:PATH:MODE, with MODE rw or ro"
        ))
    };
    let mut parts = text.split(':');
    let (Some(name), Some(at), mode, None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(wrong("not two or three parts"));
    };
    let writable = match mode {
        None | Some("rw") => true,
        Some("ro") => false,
        Some("snapshot") => return Err(wrong("snapshot is not supported yet")),
        Some(_) => return Err(wrong("no such mode")),
    };
    if !at.starts_with('/') {
        return Err(wrong("the path inside is absolute"));
    }
    if name.starts_with('/') {
        return Ok(Volume::Directory(Mount {
            source: PathBuf::from(name),
            target: at.to_owned(),
            writable,
        }));
    }
    // A volume is named by the same rule as a host or a run: it becomes a directory's name.
    name.parse::<regatta_model::RunId>()
        .map_err(|_| wrong("a volume's name has letters, digits, '-', '_' and '.'"))?;
    Ok(Volume::Named(VolumePlan {
        name: name.to_owned(),
        at: at.to_owned(),
        writable,
    }))
}

/// The exit status of an ended container, as `docker run` has it; why, where the status alone does not say.
fn status(context: &Context, ended: &Ended) -> u8 {
    let said = |status: u8, why: &str| {
        crate::context::complain(&context.global, why);
        status
    };
    match &ended.ending {
        Ending::Exited { code } => u8::try_from(*code).unwrap_or(FAILED),
        Ending::Signaled { signal } => 128_u8.saturating_add(u8::try_from(*signal).unwrap_or(127)),
        Ending::TimedOut => said(124, "the container timed out"),
        Ending::OutOfMemory => said(
            137,
            "the container ran out of memory: --memory raises the limit",
        ),
        Ending::Stopped => 130,
        Ending::CannotStart { message } => said(127, message),
        Ending::LeaseEnded => said(FAILED, "the container was not renewed in time"),
        Ending::HostFault { message } => said(FAILED, message),
        Ending::ExecutorLost => said(FAILED, "the executor ended, and the container with it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_named_or_a_directory() {
        assert!(
            matches!(volume("cache:/c"), Ok(Volume::Named(v)) if v.name == "cache" && v.at == "/c" && v.writable)
        );
        assert!(matches!(volume("/srv:/c:ro"), Ok(Volume::Directory(m)) if !m.writable));
        for wrong in [
            "cache",
            "cache:c",
            "cache:/c:rx",
            "a:/b:ro:x",
            "../x:/c",
            "x:/c:snapshot",
        ] {
            assert!(volume(wrong).is_err(), "{wrong}");
        }
    }
}
