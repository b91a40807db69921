//! Set-up: a matrix's command run once per distinct content on a host, kept as a layer that its cells share.
//! May not: let anything of one cell or attempt in; what goes in is in the key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use regatta_image::passwd;
use regatta_model::container::{Ended, Ending, Writable};
use regatta_model::plan::{AttemptPlan, StepPlan};
use regatta_model::{Blame, Digest, Outcome};
use tokio::sync::watch;

use crate::collect;
use crate::executor::Link;
use crate::failure::{Failure, blocking};
use crate::host::{Host, Wish};
use crate::layers::{Found, Layer, Making};
use crate::mould::{self, Defaults, Order, Program};

/// A set-up's lease while its agent has none from a server yet, in milliseconds.
const LEASE_LEAST_MS: u64 = 1_000;

/// Lines and bytes of a failing set-up's output that its detail cites.
const CITED: (usize, usize) = (20, 2048);

/// The set-up layer, made now where there is none; `below` are the layers that it stands on.
pub(crate) async fn ensure(
    host: &Host,
    key: Digest,
    below: &[PathBuf],
    defaults: &Defaults,
    plan: &AttemptPlan,
    step: &StepPlan,
) -> Result<Layer, Failure> {
    const WHAT: &str = "the set-up layer";
    let found = host.moulds.setups.get(key).await;
    let making = match found.map_err(|error| Failure::host(WHAT, &error))? {
        Found::Ready(layer) => return Ok(layer),
        Found::Absent(making) => making,
    };
    let place = host
        .slots
        .acquire()
        .await
        .map_err(|error| Failure::host(WHAT, &error))?;
    let made = make(host, &making, below, defaults, plan, step).await;
    drop(place);
    match made {
        Ok(()) => {
            let setups = host.moulds.setups.clone();
            blocking(move || {
                let layer = making.done().map_err(|error| Failure::host(WHAT, &error))?;
                if let Err(error) = setups.clean() {
                    tracing::warn!("cannot clean {}: {error}", "the set-up layers");
                }
                Ok(layer)
            })
            .await?
        }
        Err(mut failure) => {
            if failure.log.is_some() {
                // It outlives the directory that it was written in: every cell of the run shows it.
                let log = host.layout.setups().join(format!("failed-{}", key.hex()));
                failure.log = std::fs::rename(log_of(making.directory()), &log)
                    .is_ok()
                    .then_some(log);
            }
            blocking(move || drop(making.abandon())).await?;
            Err(failure)
        }
    }
}

fn log_of(directory: &Path) -> PathBuf {
    directory.join("log")
}

async fn make(
    host: &Host,
    making: &Making,
    below: &[PathBuf],
    defaults: &Defaults,
    plan: &AttemptPlan,
    step: &StepPlan,
) -> Result<(), Failure> {
    let setup = |error: &dyn std::fmt::Display| {
        Failure::test(
            Outcome::SetupFailed,
            format!("the set-up cannot run: {error}"),
        )
    };
    let who = step
        .user
        .clone()
        .or_else(|| defaults.user.clone())
        .unwrap_or_default();
    let layers = below.to_owned();
    let user = blocking(move || passwd::resolve(&layers, &who)).await?;
    let user = user.map_err(|error| setup(&error))?;
    let log = log_of(making.directory());
    let id = format!(
        "s-{}-{}-{}",
        std::process::id(),
        host.now().0,
        host.number()
    );
    let mut env = vec![("CI".to_owned(), "true".to_owned())];
    env.extend(
        step.env
            .iter()
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    let lease = host
        .state()
        .reconcile
        .lease_left_ms(host.now())
        .max(LEASE_LEAST_MS);
    let spec = mould::container(Order {
        id: id.clone(),
        defaults,
        layers: below.to_owned(),
        program: Program::Exactly(step.run.argv()),
        env,
        user: &user,
        workdir: step.workdir.as_deref(),
        network: step.network,
        mounts: Vec::new(),
        limits: plan.limits,
        writable: Writable::Keep {
            directory: making.directory().join("fs"),
        },
        timeout_ms: step.timeout_ms,
        log: log.clone(),
        lease_ms: Some(lease),
    })
    .map_err(|error| setup(&error))?;
    let (_wish, wished) = watch::channel(Wish::Run);
    let running = Running::new(host, id.clone());
    let (ended, _) = host.contain(spec, wished).await?;
    running.over();
    host.forget(&id).await;
    judge(&ended, step, plan, log)
}

/// What a set-up's end means.
fn judge(ended: &Ended, step: &StepPlan, plan: &AttemptPlan, log: PathBuf) -> Result<(), Failure> {
    if ended.ending == (Ending::Exited { code: 0 }) {
        return Ok(());
    }
    let judged = crate::outcome::judge(&ended.ending, step.timeout_ms, &plan.limits);
    if judged.blame != Some(Blame::Test) {
        let detail = format!("the set-up did not end: {}", judged.detail);
        return Err(Failure {
            outcome: judged.outcome,
            blame: judged.blame,
            detail,
            log: None,
        });
    }
    let how = match judged.outcome {
        Outcome::Exited { exit_code } if judged.detail.is_empty() => {
            format!("exit status {exit_code}")
        }
        Outcome::Signaled { signal } => format!("signal {signal}"),
        _ => judged.detail,
    };
    let (lines, bytes) = CITED;
    let cited = collect::last_lines(&log, lines, bytes);
    let detail = if cited.is_empty() {
        format!("the set-up failed: {how}")
    } else {
        format!("the set-up failed: {how}; its last lines:\n{cited}")
    };
    let failure = Failure::test(Outcome::SetupFailed, detail);
    Err(Failure {
        log: Some(log),
        ..failure
    })
}

/// A set-up's container under way: renewed with the attempts, stopped where nobody waits for it any more.
struct Running<'a> {
    host: &'a Host,
    id: String,
    over: bool,
}

impl<'a> Running<'a> {
    fn new(host: &'a Host, id: String) -> Self {
        host.state().beside.insert(id.clone());
        Self {
            host,
            id,
            over: false,
        }
    }

    fn over(mut self) {
        self.over = true;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.host.state().beside.remove(&self.id);
        let link: Option<Arc<Link>> = self.host.link.borrow().clone();
        if let (false, Some(link)) = (self.over, link) {
            let id = std::mem::take(&mut self.id);
            tokio::task::spawn_blocking(move || link.end(&id));
        }
    }
}
