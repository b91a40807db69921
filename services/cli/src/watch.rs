//! Follows a run to its end: one line on the terminal, Ctrl-C once to cancel, twice to leave at once. May not: miss
//! the end because a connection broke.

use std::time::Duration;

use futures_util::StreamExt as _;
use regatta_model::report::{Bisected, BisectedAs, Searches};
use regatta_model::run::RunEvent;
use regatta_model::wait::Wait;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::client::Client;
use crate::context::{Context, Failure};
use crate::progress::RunLine;

/// How watching ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    /// The run is over.
    Over,
    /// Somebody interrupted, and the run was cancelled.
    Interrupted,
}

/// Tries to reach the server again after its stream of events broke, each `RETRY_AFTER` apart.
const RETRIES: u32 = 120;
/// The same where the server is another process of this machine, whose place can be taken.
const LOCAL_RETRIES: u32 = 2;
/// How long nothing happens before it is said why.
const STILL: Duration = Duration::from_secs(3);
const RETRY_AFTER: Duration = Duration::from_millis(500);

pub(crate) async fn watch(
    context: &Context,
    client: &Client,
    run: &str,
) -> Result<Watched, Failure> {
    let mut line = RunLine::new(context);
    let result = follow(context, client, run, &mut line).await;
    line.finish();
    result
}

async fn follow(
    context: &Context,
    client: &Client,
    run: &str,
    line: &mut RunLine,
) -> Result<Watched, Failure> {
    let mut interrupts = Interrupts::new()?;
    let mut interrupted = false;
    let mut hints = Hints::default();
    let mut last = None;
    let mut retries = 0;
    let most = if context.is_local() {
        LOCAL_RETRIES
    } else {
        RETRIES
    };
    loop {
        let mut events = match client.events(run, last.clone()).await {
            Ok(events) => Box::pin(events),
            Err(failure) if failure.is_platform() && retries < most => {
                retries += 1;
                tokio::select! {
                    () = tokio::time::sleep(RETRY_AFTER) => continue,
                    () = interrupts.next() => return Err(failure.with_status(130)),
                }
            }
            Err(failure) => return Err(failure),
        };
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = tokio::time::sleep(STILL), if !interrupted => {
                    hints.say(context, client, run).await;
                    continue;
                }
                () = interrupts.next() => {
                    if interrupted {
                        // Whoever asks twice wants to go now; the next start cleans up.
                        line.finish();
                        std::process::exit(130);
                    }
                    interrupted = true;
                    context.say("cancelling; once more leaves at once");
                    client.post(&format!("api/v1/runs/{run}/cancel")).await?;
                    continue;
                }
            };
            match event {
                Some(Ok((id, event))) => {
                    retries = 0;
                    last = Some(id);
                    if show(line, &event) {
                        return Ok(if interrupted {
                            Watched::Interrupted
                        } else {
                            Watched::Over
                        });
                    }
                }
                // The stream ended or broke: ask for the rest.
                Some(Err(_)) | None => break,
            }
        }
        if retries >= most {
            return Err(Failure::unreachable(format!(
                "the server keeps ending its stream of events of run {run}"
            )));
        }
        retries += 1;
        tokio::time::sleep(RETRY_AFTER.min(Duration::from_millis(50) * retries)).await;
    }
}

/// How often it is asked how a search for where regressions began goes on.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Waits until the server looks no further into a run that was over, and tells how it goes on.
pub(crate) async fn looked_into(
    context: &Context,
    client: &Client,
    run: &str,
) -> Result<Watched, Failure> {
    loop {
        let now = client.run(run).await?;
        let watched = if !now.state.is_over() {
            context.say("running on with what is unresolved, where nothing else wants the places");
            watch(context, client, run).await?
        } else if now.bisecting {
            bisected(context, client, run).await?
        } else {
            return Ok(Watched::Over);
        };
        if watched == Watched::Interrupted {
            return Ok(watched);
        }
    }
}

/// Waits until the server looks for the beginnings of a run's regressions no more, and tells how it goes on.
async fn bisected(context: &Context, client: &Client, run: &str) -> Result<Watched, Failure> {
    let mut interrupts = Interrupts::new()?;
    let mut said = String::new();
    let mut retries = 0;
    loop {
        let searches: Result<Searches, Failure> =
            client.get(&format!("api/v1/runs/{run}/bisection")).await;
        let searches = match searches {
            Ok(searches) => searches,
            Err(failure) if failure.is_platform() && retries < RETRIES => {
                retries += 1;
                tokio::time::sleep(RETRY_AFTER).await;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        retries = 0;
        if let Some(gap) = searches.gaps.last() {
            if said.is_empty() {
                "looking for where its regressions began".clone_into(&mut said);
                context.say(&said);
            }
            let open = |found: &&Bisected| found.result == BisectedAs::Searching;
            let now = gap.found.iter().find(open);
            if let Some(now) = now.filter(|now| now.attempts > 0 && now.text != said) {
                context.say(&now.text);
                said.clone_from(&now.text);
            }
        }
        if !searches.searching {
            return Ok(Watched::Over);
        }
        tokio::select! {
            () = tokio::time::sleep(ASK_EVERY) => {}
            () = interrupts.next() => {
                client.post(&format!("api/v1/runs/{run}/cancel")).await?;
                return Ok(Watched::Interrupted);
            }
        }
    }
}

/// What was said about a run that stands still.
#[derive(Default)]
struct Hints(Vec<Wait>);

impl Hints {
    /// Says what nothing but a person will change, once.
    async fn say(&mut self, context: &Context, client: &Client, run: &str) {
        // A hint that cannot be had is none: the stream of events tells what is wrong.
        let Ok(explanation) = client.explain(run).await else {
            return;
        };
        for wait in explanation.waits {
            let stuck = matches!(
                wait,
                Wait::NoHost
                    | Wait::NoHostWithLabels { .. }
                    | Wait::NoHostHolds { .. }
                    | Wait::HostsNotAble { .. }
            );
            if stuck && !self.0.contains(&wait) {
                context.say(format_args!("run {run} waits: {wait}"));
                self.0.push(wait);
            }
        }
    }
}

/// Shows an event; whether the run is over with it.
fn show(line: &mut RunLine, event: &RunEvent) -> bool {
    match event {
        RunEvent::Attempt { progress, .. } => {
            line.show(progress);
            false
        }
        RunEvent::State { state, progress } => {
            line.show(progress);
            state.is_over()
        }
    }
}

/// Ctrl-C, and a polite end (SIGTERM): heard from the moment this exists.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    fn new() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
