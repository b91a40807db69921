//! The programs that stay: `server`, `agent`, `executor`. May not: do their work; each stands in its own crate.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;

use regatta_daemon::Agent;
use regatta_daemon::executor::Life;
use regatta_model::matrix::parse_duration_ms;
use regatta_server::{Listen, Server};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::args::{AgentArgs, ExecutorArgs, Global, ServerArgs};
use crate::client::Place;
use crate::context::{Context, Failure, key_value, make_private, quantity};
use crate::local::address_file;

pub(crate) fn executor(options: &ExecutorArgs, global: &Global) -> Result<ExitCode, Failure> {
    make_private(&global.data)?;
    regatta_executor::serve(&regatta_executor::Options {
        socket: options.socket.clone(),
        state: global.data.join("executor"),
        parent_lifeline: options.lifeline,
    })
    .map_err(Failure::platform)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn server(context: &Context, options: ServerArgs) -> Result<ExitCode, Failure> {
    let data = context.data();
    make_private(data)?;
    let directory = data.join("server");
    make_private(&directory)?;
    let mut lock = std::fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(directory.join("lock"))?;
    lock.try_lock().map_err(|_| {
        Failure::wrong(format!(
            "another process serves {}: end it, or name another directory with --data",
            data.display()
        ))
    })?;
    lock.set_len(0)?;
    lock.write_all(b"server")?;
    let address = options.listen.parse().map_err(|_| {
        Failure::wrong(format!(
            "--listen {}: expected an address and a port, like 127.0.0.1:7470 or [::1]:7470",
            options.listen
        ))
    })?;
    let mut start = regatta_server::Options::local(data, Listen::Tcp(address));
    start.insecure = options.insecure;
    start.lease_ms = options.lease * 1000;
    if let Some(database) = options.database {
        start.database = database;
    }
    if let Some(blobs) = options.blobs {
        start.blobs = blobs;
    }
    start.blobs_public_endpoint = options.blobs_public_endpoint;
    start.direct_uploads = !options.no_direct_uploads;
    let keep = options.keep.as_deref();
    let keep = quantity("keep", keep, "a time like 90d", parse_duration_ms)?;
    start.keep = keep.map(std::time::Duration::from_millis);
    if let Some(images) = options.images {
        start.images = images;
    }
    if let Some(advertise) = &options.advertise {
        Place::parse(advertise).map_err(|_| {
            Failure::wrong(format!(
                "--advertise {advertise}: expected a URL like http://10.0.0.1:7470"
            ))
        })?;
    }
    start.advertise = options.advertise;
    let server = Server::start(start).await.map_err(Failure::wrong)?;
    let url = format!("http://{}", server.address());
    std::fs::write(address_file(data), &url)?;
    context.say(format!("listening on {url}"));
    let by_itself = tokio::select! {
        told = until_told_to_end() => {
            told?;
            false
        }
        () = server.ended() => true,
    };
    drop(std::fs::remove_file(address_file(data)));
    server.shutdown().await;
    drop(lock);
    if by_itself {
        // Its last words are in its log; whoever watches over it starts it again.
        return Err(Failure::platform(
            "the server ended by itself: what it was told contradicts what is recorded",
        ));
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn agent(context: &Context, options: AgentArgs) -> Result<ExitCode, Failure> {
    let url = context.global.server.as_deref().ok_or_else(|| {
        Failure::wrong("an agent needs its server: --server URL, like --server http://127.0.0.1:7470, or REGATTA_SERVER")
    })?;
    make_private(context.data())?;
    let mut labels = BTreeMap::new();
    for label in &options.label {
        let (name, value) = key_value("label", label, "NAME=VALUE, like --label disk=ssd")?;
        labels.insert(name.to_owned(), value.to_owned());
    }
    let name = match &options.name {
        Some(name) => name.parse().map_err(Failure::wrong)?,
        None => regatta_daemon::facts::host_name(),
    };
    let slots = options.slots.unwrap_or_else(crate::local::processors);
    let agent = Agent::new(regatta_daemon::Options {
        server: url.parse().map_err(Failure::wrong)?,
        name,
        slots,
        data: context.data().to_owned(),
        labels,
        life: Life::Own,
        program: None,
    });
    let shutdown = CancellationToken::new();
    let ended = shutdown.clone();
    let task = tokio::spawn(async move { agent.run(ended).await });
    context.say(format!("serving {url} with {slots} places"));
    tokio::pin!(task);
    let result = tokio::select! {
        result = &mut task => result,
        told = until_told_to_end() => {
            told?;
            shutdown.cancel();
            task.await
        }
    };
    result
        .map_err(Failure::platform)?
        .map_err(Failure::platform)?;
    Ok(ExitCode::SUCCESS)
}

/// Until Ctrl-C or SIGTERM.
async fn until_told_to_end() -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
