//! `bench start`: how long containers take from the order to the end of `true`, and how many end in a second. May not:
//! leave out anything that an attempt's container has.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use regatta_daemon::Layout;
use regatta_daemon::link::{End, Link};
use regatta_daemon::mould::{self, Defaults, Order, Program};
use regatta_image::passwd;
use regatta_model::container::{ContainerSpec, Ended, Ending, Limits, Network, Writable};
use serde::Serialize;

use crate::args::{BenchArgs, BenchCommand, BenchStartArgs};
use crate::context::{Context, Failure};

/// Most containers at once.
const CONCURRENCY_MOST: u32 = 256;
/// Starts before those that count.
const WARM_UP: u32 = 8;

#[derive(Serialize)]
struct Measured {
    count: u32,
    concurrency: u32,
    seconds: f64,
    p50_ms: f64,
    p99_ms: f64,
    rate: f64,
}

pub(crate) async fn bench(context: &Context, options: BenchArgs) -> Result<ExitCode, Failure> {
    let BenchCommand::Start(options) = options.command;
    if options.concurrency == 0 || options.concurrency > CONCURRENCY_MOST || options.count == 0 {
        return Err(Failure::wrong(format!(
            "--concurrency goes from 1 to {CONCURRENCY_MOST}, --count from 1"
        )));
    }
    let name = options
        .image
        .clone()
        .unwrap_or_else(|| "busybox".to_owned());
    let image = crate::exec::find_image(context, &name).await?;
    let store = context.images()?;
    let holder = context.clone();
    let trace = options.trace;
    let work = move || -> Result<(Measured, Vec<(Duration, Ended)>), Failure> {
        let layers = store.unpack(&image).map_err(Failure::platform)?;
        let defaults = Defaults::read(&store, &image).map_err(Failure::platform)?;
        let user = passwd::resolve(&layers, "").map_err(Failure::platform)?;
        let (layout, link) = holder.executor()?;
        let order = |number: u32| -> Result<ContainerSpec, Failure> {
            mould::container(Order {
                id: format!("bench-{}-{number}", std::process::id()),
                defaults: &defaults,
                layers: layers.clone(),
                program: Program::Exactly(vec!["true".to_owned()]),
                env: Vec::new(),
                user: &user,
                workdir: Some("/"),
                network: Network::None,
                mounts: Vec::new(),
                limits: Limits {
                    cpu_millis: Some(1000),
                    memory_bytes: Some(512 << 20),
                    processes: Some(256),
                    disk_bytes: Some(1 << 30),
                    files: Some(1024),
                    output_bytes: 16 << 20,
                },
                writable: Writable::Memory,
                timeout_ms: 60_000,
                log: log(&layout, number),
                lease_ms: None,
            })
            .map_err(Failure::platform)
        };
        measure(&link, &layout, &options, &order)
    };
    let (measured, starts) = tokio::task::spawn_blocking(work)
        .await
        .map_err(Failure::platform)??;
    if trace {
        tell_parts(&starts);
    }
    if context.global.json {
        crate::output::print_json(&measured)?;
    } else {
        let Measured {
            count,
            concurrency,
            seconds,
            p50_ms,
            p99_ms,
            rate,
        } = measured;
        anstream::println!(
            "{count} containers, {concurrency} at once: p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms, {rate:.0}/s, {seconds:.2} s in all"
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn log(layout: &Layout, number: u32) -> std::path::PathBuf {
    layout
        .root()
        .join(format!("bench-{}-{number}.log", std::process::id()))
}

type Order1<'a> = dyn Fn(u32) -> Result<ContainerSpec, Failure> + Sync + 'a;

fn measure(
    link: &Link,
    layout: &Layout,
    options: &BenchStartArgs,
    order: &Order1<'_>,
) -> Result<(Measured, Vec<(Duration, Ended)>), Failure> {
    for number in 0..WARM_UP {
        one(link, layout, order, number)?;
    }
    let next = AtomicU32::new(WARM_UP);
    let last = WARM_UP + options.count;
    let results = Mutex::new(Vec::new());
    let failure = Mutex::new(None);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..options.concurrency {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= last {
                        return;
                    }
                    match one(link, layout, order, number) {
                        Ok(start) => results
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(start),
                        Err(error) => {
                            failure
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .get_or_insert(error);
                            return;
                        }
                    }
                }
            });
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut starts = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    starts.sort_by_key(|(time, _)| *time);
    let ms = |per_cent: usize| {
        let place = (starts.len() * per_cent / 100).min(starts.len().saturating_sub(1));
        starts
            .get(place)
            .map_or(0.0, |(time, _)| time.as_secs_f64() * 1000.0)
    };
    let measured = Measured {
        count: options.count,
        concurrency: options.concurrency,
        seconds,
        p50_ms: ms(50),
        p99_ms: ms(99),
        rate: f64::from(options.count) / seconds,
    };
    Ok((measured, starts))
}

/// One container from its order to its forgetting.
fn one(
    link: &Link,
    layout: &Layout,
    order: &Order1<'_>,
    number: u32,
) -> Result<(Duration, Ended), Failure> {
    let spec = order(number)?;
    let id = spec.id.clone();
    let (tell, told) = sync_channel(1);
    let begun = Instant::now();
    link.start(spec, move |end| {
        let _ = tell.send(end);
    })
    .map_err(Failure::platform)?;
    let end = told.recv().map_err(Failure::platform)?;
    let time = begun.elapsed();
    link.forget(&id).map_err(Failure::platform)?;
    drop(std::fs::remove_file(log(layout, number)));
    match end {
        End::Ended(ended) if ended.ending == (Ending::Exited { code: 0 }) => Ok((time, *ended)),
        End::Ended(ended) => Err(Failure::platform(format!(
            "a container ended otherwise than `true` does: {:?}",
            ended.ending
        ))),
        End::Lost => Err(Failure::platform("the executor ended")),
    }
}

/// Where the time of each container went: until the program began, the program itself, and the rest.
fn tell_parts(starts: &[(Duration, Ended)]) {
    anstream::eprintln!("{:>12} {:>12} {:>12}  (ms)", "whole", "to start", "program");
    for (time, ended) in starts {
        anstream::eprintln!(
            "{:>12.3} {:>12.3} {:>12}",
            time.as_secs_f64() * 1000.0,
            Duration::from_micros(ended.start_us).as_secs_f64() * 1000.0,
            ended.wall_ms
        );
    }
}
