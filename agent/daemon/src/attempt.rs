//! One attempt's life: made ready, run when there is a place, its outcome put together and on disk. May not: tell the
//! server (that is `sync`) or decide whether it is wanted (`reconcile`).

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use regatta_image::{Store, passwd};
use regatta_model::container::{ContainerSpec, Ended, Limits, Mount, Writable};
use regatta_model::plan::{AttemptPlan, Keep, SHARD_PLAN_BYTES_MOST};
use regatta_model::wire::{EndedAttempt, LogPlace};
use regatta_model::{AttemptId, Digest, Outcome};
use tokio::sync::watch;

use crate::conclude;
use crate::crash::{self, ASSIGNED, ENDED};
use crate::failure::{Failure, blocking};
use crate::files;
use crate::host::{Host, Wish, unwanted};
use crate::identity::Identity;
use crate::mould::{self, ARTIFACTS, Order, Program, RESULTS, SHARDS};
use crate::prepare::{self, Mould};
use crate::records::{Places, Record, container_id};

/// Between two tries to write an outcome down, where the disk refuses.
const OUTBOX_PAUSE: Duration = Duration::from_secs(1);

/// An attempt that the server wants here.
pub(crate) struct Job {
    pub(crate) attempt: AttemptId,
    pub(crate) generation: u64,
    pub(crate) plan: AttemptPlan,
    pub(crate) wish: watch::Receiver<Wish>,
    /// The task of the same attempt before, if it was dropped and is wanted again.
    pub(crate) before: Option<tokio::task::JoinHandle<()>>,
}

/// Ready to start.
struct Ready {
    spec: ContainerSpec,
    record: Record,
    /// Keeps its layers.
    mould: Arc<Mould>,
}

/// Runs an attempt from its assignment to its outcome.
pub(crate) async fn run(host: Arc<Host>, mut job: Job) {
    if let Some(before) = job.before.take() {
        drop(before.await);
    }
    let assigned = Instant::now();
    let places = Places::new(&host.layout, &job.attempt);
    let mut wish = job.wish.clone();
    let mould = tokio::select! {
        mould = prepare::mould(&host, &job.attempt.run, &job.plan) => mould,
        () = unwanted(&mut wish) => return,
    };
    // Not given up half-way: what makes the directory must have ended before it is removed.
    let ready = match mould {
        Ok(mould) => make_ready(&host, &job, &places, mould, assigned).await,
        Err(failure) => Err(failure),
    };
    let mut ready = match ready {
        Ok(ready) => ready,
        Err(failure) => return fail(&host, &job, &places, failure, assigned).await,
    };
    let place = tokio::select! {
        place = host.slots.acquire() => place,
        () = unwanted(&mut wish) => return discard(places).await,
    };
    let Ok(place) = place else {
        return discard(places).await;
    };
    let lease = {
        let mut state = host.state();
        let now = host.now();
        state
            .reconcile
            .starting(&job.attempt, now)
            .then(|| state.reconcile.lease_left_ms(now))
    };
    let Some(lease) = lease else {
        drop(place);
        return discard(places).await;
    };
    ready.spec.lease_ms = Some(lease);
    ready.record.queue_ms = milliseconds(assigned.elapsed());
    let began = Instant::now();
    if let Some(task) = host.state().tasks.get_mut(&job.attempt) {
        task.began = Some(began);
    }
    crash::point(ASSIGNED);
    let contained = host.contain(ready.spec, job.wish.clone()).await;
    drop(place);
    {
        let mut state = host.state();
        state.pace.attempt(began.elapsed().as_secs_f64() * 1000.0);
        if let Some(task) = state.tasks.get_mut(&job.attempt) {
            task.began = None;
        }
    }
    match contained {
        Ok((ended, incarnation)) => {
            ready.record.incarnation = incarnation;
            after(&host, ready.record, ended, &places).await;
            drop(ready.mould);
        }
        Err(failure) => fail(&host, &job, &places, failure, assigned).await,
    }
}

/// Goes on with an attempt that an earlier agent started.
pub(crate) async fn resume(host: Arc<Host>, record: Record, wish: watch::Receiver<Wish>) {
    let places = Places::new(&host.layout, &record.attempt);
    let id = container_id(&record.attempt);
    // Held as long as the container may run; a layer that is gone cannot be helped.
    let _held = host.moulds.hold(&record.made_layers);
    match host.find_again(&id, record.incarnation, wish).await {
        Ok(ended) => after(&host, record, ended, &places).await,
        Err(failure) => tracing::warn!("{}: {}", record.attempt, failure.detail),
    }
}

/// A container ended: puts the outcome together and writes it down.
async fn after(host: &Arc<Host>, record: Record, ended: Ended, places: &Places) {
    host.state().reconcile.ending(&record.attempt);
    let container = ended.id.clone();
    let outcome = conclude::conclude(host, record, ended, places).await;
    match outcome {
        Ok(outcome) => {
            write_down(host, outcome).await;
            host.forget(&container).await;
        }
        Err(failure) => tracing::warn!("an outcome waits for the next agent: {}", failure.detail),
    }
}

/// The attempt never came to its test: an outcome all the same, if it is still wanted.
async fn fail(host: &Arc<Host>, job: &Job, places: &Places, failure: Failure, assigned: Instant) {
    if !host.state().reconcile.ending(&job.attempt) {
        return discard(places.clone()).await;
    }
    tracing::info!(
        "{}: {}: {}",
        job.attempt,
        failure.outcome.name(),
        failure.detail
    );
    let files = host.server.files_by(job.generation);
    let log = match &failure.log {
        Some(log) => conclude::log_place(host, &job.attempt, files, log, places).await,
        None => Ok(LogPlace::Empty),
    };
    let outcome = EndedAttempt {
        attempt: job.attempt.clone(),
        generation: job.generation,
        incarnation: host.state().reconcile.incarnation(),
        outcome: failure.outcome,
        blame: failure.blame,
        detail: failure.detail,
        wall_ms: 0,
        queue_ms: milliseconds(assigned.elapsed()),
        start_us: 0,
        cpu_us: 0,
        peak_memory_bytes: 0,
        metrics: regatta_model::metric::Metrics::new(),
        identity: None,
        changed: Vec::new(),
        results: regatta_model::case::Results::default(),
        files: files.filter(|_| matches!(log, Ok(LogPlace::Uploaded { .. }))),
        log: log.unwrap_or(LogPlace::Empty),
        artifacts: Vec::new(),
    };
    write_down(host, outcome).await;
}

/// Puts an outcome into the outbox, however long the disk refuses.
async fn write_down(host: &Arc<Host>, mut outcome: EndedAttempt) {
    let attempt = outcome.attempt.clone();
    if let Some(generation) = host.state().reconcile.generation(&attempt) {
        outcome.generation = generation;
    }
    crash::point(ENDED);
    while let Err(error) = host.outbox.put(outcome.clone()).await {
        tracing::error!("cannot write down the outcome of {attempt}: {error}; trying again");
        tokio::time::sleep(OUTBOX_PAUSE).await;
    }
    {
        let mut state = host.state();
        state.reconcile.ended(&attempt);
        state.tasks.remove(&attempt);
    }
    host.tell();
}

async fn discard(places: Places) {
    if let Ok(Err(error)) = blocking(move || places.clear()).await {
        tracing::warn!("cannot remove an attempt's directory: {error}");
    }
}

async fn make_ready(
    host: &Host,
    job: &Job,
    places: &Places,
    mould: Arc<Mould>,
    assigned: Instant,
) -> Result<Ready, Failure> {
    let (attempt, generation) = (job.attempt.clone(), job.generation);
    let incarnation = host.state().reconcile.incarnation();
    let (plan, layout, places) = (job.plan.clone(), host.layout.clone(), places.clone());
    let split = plan.shard.and_then(|shard| shard.plan);
    if let Some(split) = split {
        files::bring(&host.store, &host.server, split, SPLIT).await?;
    }
    let store = host.store.clone();
    blocking(move || {
        let order = Ordering {
            layout: &layout,
            attempt: &attempt,
            places: &places,
        };
        let spec = order.spec(&plan, &mould)?;
        let record = Record {
            identity: Identity::new(&plan, &spec, mould.setup).digest(),
            made_layers: mould
                .made
                .iter()
                .map(|layer| layer.directory.clone())
                .collect(),
            queue_ms: milliseconds(assigned.elapsed()),
            attempt,
            generation,
            incarnation,
            plan,
        };
        places
            .make(&record)
            .map_err(|error| Failure::host("the attempt's directory", &error))?;
        if let Some(split) = split {
            write_split(&store, &split, &places.shards)?;
        }
        Ok(Ready {
            spec,
            record,
            mould,
        })
    })
    .await?
}

/// What the plan of shards is called in messages.
const SPLIT: &str = "the plan of the shards";

/// Writes the plan of shards to where the container is to see it.
fn write_split(store: &Store, split: &Digest, to: &Path) -> Result<(), Failure> {
    let blob = store.open_blob(split);
    let blob = blob.map_err(|error| Failure::image(SPLIT, &error))?;
    let most = u64::try_from(SHARD_PLAN_BYTES_MOST).unwrap_or(u64::MAX);
    let written = File::create(to).and_then(|mut file| {
        std::io::copy(&mut blob.take(most), &mut file)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o444))
    });
    written.map_err(|error| Failure::host(SPLIT, &error))
}

/// What a test's container is ordered with.
struct Ordering<'a> {
    layout: &'a crate::Layout,
    attempt: &'a AttemptId,
    places: &'a Places,
}

impl Ordering<'_> {
    fn spec(&self, plan: &AttemptPlan, mould: &Mould) -> Result<ContainerSpec, Failure> {
        let test = &plan.test;
        let matrix = |error: &dyn std::fmt::Display| {
            Failure::test(
                Outcome::ImageFailed,
                format!("the test cannot run: {error}"),
            )
        };
        let who = test
            .user
            .as_deref()
            .or(mould.defaults.user.as_deref())
            .unwrap_or_default();
        let user = passwd::resolve(&mould.layers, who).map_err(|error| matrix(&error))?;
        let mut env = mould::attempt_env(self.attempt, &plan.axes);
        env.extend(
            test.env
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        // Last: a matrix that sets one of these would have some tests run nowhere.
        env.extend(plan.shard.into_iter().flat_map(mould::shard_env));
        let writable = match plan.keep {
            Keep::Never => writable(&plan.limits),
            Keep::OnFailure => Writable::Keep {
                directory: self.places.upper.clone(),
            },
        };
        mould::container(Order {
            id: container_id(self.attempt),
            defaults: &mould.defaults,
            layers: mould.layers.clone(),
            program: Program::Exactly(test.run.argv()),
            env,
            user: &user,
            workdir: test.workdir.as_deref(),
            network: test.network,
            mounts: self.mounts(plan)?,
            limits: plan.limits,
            writable,
            timeout_ms: test.timeout_ms,
            log: self.places.log.clone(),
            lease_ms: None,
        })
        .map_err(|error| matrix(&error))
    }

    fn mounts(&self, plan: &AttemptPlan) -> Result<Vec<Mount>, Failure> {
        let mount = |source: &std::path::Path, target: &str, writable| Mount {
            source: source.to_owned(),
            target: target.to_owned(),
            writable,
        };
        let mut mounts = vec![
            mount(&self.places.results, RESULTS, true),
            mount(&self.places.artifacts, ARTIFACTS, true),
        ];
        if plan.shard.is_some_and(|shard| shard.plan.is_some()) {
            mounts.push(mount(&self.places.shards, SHARDS, false));
        }
        for volume in &plan.volumes {
            // A volume's name was checked with the matrix; a server is not believed, though.
            if volume.name.parse::<regatta_model::HostName>().is_err() {
                let detail = format!("{:?} is no volume's name", volume.name);
                return Err(Failure::test(Outcome::ImageFailed, detail));
            }
            let directory = self.layout.volume(&volume.name);
            std::fs::create_dir_all(&directory)
                .map_err(|error| Failure::host("a volume's directory", &error))?;
            mounts.push(mount(&directory, &volume.at, volume.writable));
        }
        Ok(mounts)
    }
}

/// Where a test's changes to its root go: into memory only where it may not be noticed.
fn writable(limits: &Limits) -> Writable {
    /// A disk limit up to this is kept in memory, in bytes.
    const IN_MEMORY_MOST: u64 = 64 << 20;
    let small = limits
        .disk_bytes
        .is_some_and(|bytes| bytes <= IN_MEMORY_MOST);
    if small && limits.memory_bytes.is_none() {
        Writable::Memory
    } else {
        Writable::Disk
    }
}

pub(crate) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
