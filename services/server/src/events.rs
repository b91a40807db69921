//! `GET /api/v1/runs/{run}/events`: what happens to a run, as server-sent events. They are read from what is recorded, so
//! that a stream goes on where it stopped, over restarts of the server too. May not: hold up the actor.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use regatta_model::RunId;
use regatta_model::run::RunEvent;
use regatta_store::{EventKind, EventRow};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use crate::answer::{Answer, Refusal};
use crate::app::App;
use crate::limits::{EVENT_STREAMS_MOST, EVENTS_ALIVE_EVERY, EVENTS_EVERY, EVENTS_PAGE};
use crate::runs::{head, run_id};

/// Events that wait for a slow reader.
const WAITING_MOST: usize = 64;

pub(crate) async fn stream(
    State(app): State<Arc<App>>,
    Path(run): Path<String>,
    headers: HeaderMap,
) -> Answer<Response> {
    let run = run_id(&run)?;
    head(&app, &run).await?;
    let after = match headers.get("last-event-id").map(|value| value.to_str()) {
        None | Some(Ok("")) => 0,
        Some(text) => text
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(|| {
                Refusal::bad("the Last-Event-ID is none that this server gave; expected a number")
            })?,
    };
    let place = Arc::clone(&app.streams).try_acquire_owned().map_err(|_| {
        Refusal::busy(format!(
            "{EVENT_STREAMS_MOST} streams of events are open (limit EVENT_STREAMS_MOST)"
        ))
    })?;
    let (sender, receiver) = mpsc::channel(WAITING_MOST);
    // Before the first read, so that nothing recorded after it is missed.
    let changed = app.live.watch();
    tokio::spawn(async move {
        let shutdown = app.shutdown.clone();
        tokio::select! {
            () = feed(&app, &run, after, changed, &sender) => {}
            () = shutdown.cancelled() => {}
            () = sender.closed() => {}
        }
        drop(place);
    });
    let alive = KeepAlive::new().interval(EVENTS_ALIVE_EVERY);
    Ok(Sse::new(ReceiverStream::new(receiver))
        .keep_alive(alive)
        .into_response())
}

/// Sends what was recorded after event `after`, and what will be, until the run is over.
async fn feed(
    app: &App,
    run: &RunId,
    mut after: u64,
    mut changed: watch::Receiver<u64>,
    sender: &mpsc::Sender<Result<Event, Infallible>>,
) {
    loop {
        changed.mark_unchanged();
        // Whether it is over is asked before its events are read: what is read then is all.
        let (over, last) = match app.store.head(run).await {
            Ok(Some(head)) => (head.summary.state.is_over(), head.sequence),
            Ok(None) => return,
            Err(error) => {
                tracing::warn!("events of run {run}: {error}");
                (false, after)
            }
        };
        loop {
            let events = match app.store.events(run, after, EVENTS_PAGE).await {
                Ok(events) => events,
                Err(error) => {
                    tracing::warn!("events of run {run}: {error}");
                    return;
                }
            };
            let whole = u32::try_from(events.len()).is_ok_and(|found| found == EVENTS_PAGE);
            for row in events {
                after = row.sequence;
                // An end that a rerun took back is none: whoever hears of it would go away.
                let ended = matches!(row.kind, EventKind::State(state) if state.is_over());
                if ended && row.sequence < last {
                    continue;
                }
                let running = app.live.get(run).map_or(0, |live| live.running);
                let Some(event) = event(row, running) else {
                    continue;
                };
                if sender.send(Ok(event)).await.is_err() {
                    return;
                }
            }
            if !whole {
                break;
            }
        }
        if over {
            return;
        }
        tokio::time::sleep(EVENTS_EVERY).await;
        while app.live.get(run).is_some_and(|live| live.sequence <= after) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}

fn event(row: EventRow, running: u64) -> Option<Event> {
    let mut progress = row.progress;
    progress.running = running;
    let (kind, event) = match row.kind {
        EventKind::Attempt {
            attempt,
            host,
            outcome,
            passed,
        } => {
            let event = RunEvent::Attempt {
                cell: attempt.cell,
                ordinal: attempt.ordinal,
                host: host.to_string(),
                outcome: outcome.name().to_owned(),
                passed,
                progress,
            };
            ("attempt", event)
        }
        EventKind::State(state) => ("state", RunEvent::State { state, progress }),
    };
    let data = serde_json::to_string(&event).ok()?;
    Some(
        Event::default()
            .id(row.sequence.to_string())
            .event(kind)
            .data(data),
    )
}
