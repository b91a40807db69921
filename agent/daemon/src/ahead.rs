//! Images before they are needed: fetches those that the server names, one at a time and never beside what an attempt
//! waits for; and tells which images and set-ups are here. May not: fail anything; what could not be fetched is fetched
//! by the attempt that needs it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use regatta_model::Digest;
use regatta_model::wire::{READY_MOST, SOON_MOST};
use tokio::sync::watch;

use crate::host::Host;
use crate::prepare;

/// What is to be fetched, and what was used.
pub(crate) struct Soon {
    state: Mutex<State>,
    /// How many attempts wait for an image.
    asking: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    /// What is still to be fetched; at most [`SOON_MOST`].
    waiting: VecDeque<Digest>,
    /// Whether somebody fetches.
    fetching: bool,
    /// Images that were used or fetched, the last one first; at most [`READY_MOST`].
    used: VecDeque<Digest>,
}

impl Default for Soon {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            asking: watch::channel(0).0,
        }
    }
}

/// An attempt waits for its image while this lives.
pub(crate) struct Asked<'a>(&'a Soon);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.asking.send_modify(|asking| *asking -= 1);
    }
}

impl Soon {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt waits for an image from now on.
    pub(crate) fn asked(&self) -> Asked<'_> {
        self.asking.send_modify(|asking| *asking += 1);
        Asked(self)
    }

    /// This image is here, and was used now.
    pub(crate) fn used(&self, image: Digest) {
        let mut state = self.state();
        state.used.retain(|other| *other != image);
        state.used.push_front(image);
        state.used.truncate(READY_MOST);
    }

    /// What the server is told: images used by this agent first, and then what was `found`.
    pub(crate) fn ready(&self, found: &[Digest]) -> Vec<Digest> {
        let mut ready: Vec<Digest> = self.state().used.iter().copied().collect();
        let known: BTreeSet<Digest> = ready.iter().copied().collect();
        ready.extend(found.iter().filter(|digest| !known.contains(digest)));
        ready.truncate(2 * READY_MOST);
        ready
    }

    /// The next image to fetch, once no attempt waits for one; none: whoever asked may go.
    async fn next(&self) -> Option<Digest> {
        let mut asking = self.asking.subscribe();
        if asking.wait_for(|asking| *asking == 0).await.is_err() {
            return None;
        }
        let mut state = self.state();
        let next = state.waiting.pop_front();
        state.fetching = next.is_some();
        next
    }
}

/// Images and set-ups on this host's disk. Blocking.
pub(crate) fn ready(host: &Host) -> Vec<Digest> {
    let mut state = host.moulds.soon.state();
    state.used.retain(|image| host.store.has(image));
    drop(state);
    let setups = host.moulds.setups.keys(READY_MOST);
    // An image that has no name here is told once it was used.
    let named = host.store.list().unwrap_or_default();
    let images = named.into_iter().map(|listed| listed.digest);
    setups.into_iter().chain(images.take(READY_MOST)).collect()
}

/// Fetches these images, in the background.
pub(crate) fn fetch(host: &Arc<Host>, images: &[Digest]) {
    let mut state = host.moulds.soon.state();
    for image in images {
        if state.waiting.len() < SOON_MOST && !state.waiting.contains(image) {
            state.waiting.push_back(*image);
        }
    }
    if state.fetching || state.waiting.is_empty() {
        return;
    }
    state.fetching = true;
    drop(state);
    let host = Arc::clone(host);
    tokio::spawn(async move {
        while let Some(image) = host.moulds.soon.next().await {
            match prepare::image(&host, image).await {
                Ok(_) => {
                    host.moulds.soon.used(image);
                    tracing::info!("the image {image} is here before an attempt needs it");
                }
                Err(failure) => {
                    tracing::warn!("an image was not fetched ahead: {}", failure.detail);
                }
            }
        }
    });
}
