//! The outbox for many tasks at once: outcomes that come together are written and synced to disk together. May
//! not: answer before they are on disk.

use std::io;
use std::sync::Arc;

use regatta_model::AttemptId;
use regatta_model::case::ToldResults;
use regatta_model::wire::{EndedAttempt, Sets};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, oneshot};

use crate::crash::{self, WRITTEN};
use crate::outbox::Outbox;

/// Most outcomes that are written at once, and that wait to be.
const TOGETHER: usize = 256;

type Order = (EndedAttempt, oneshot::Sender<Result<(), String>>);

/// The way to an outbox.
#[derive(Clone)]
pub(crate) struct OutboxWriter {
    orders: mpsc::Sender<Order>,
    outbox: Arc<Mutex<Outbox>>,
}

impl OutboxWriter {
    /// Begins to write for whoever asks, until all clones are gone.
    pub(crate) fn new(outbox: Outbox) -> Self {
        let outbox = Arc::new(Mutex::new(outbox));
        let (orders, taken) = mpsc::channel(TOGETHER);
        tokio::spawn(write(taken, Arc::clone(&outbox)));
        Self { orders, outbox }
    }

    /// Puts an outcome on disk.
    pub(crate) async fn put(&self, outcome: EndedAttempt) -> Result<(), String> {
        let (done, written) = oneshot::channel();
        let gone = || "the outbox is closed".to_owned();
        self.orders
            .send((outcome, done))
            .await
            .map_err(|_| gone())?;
        written.await.map_err(|_| gone())?
    }

    /// The outcomes for one sync.
    pub(crate) async fn batch(&self, sets: &Sets) -> Vec<EndedAttempt<ToldResults>> {
        self.outbox.lock().await.batch(sets)
    }

    /// Drops what the server has.
    pub(crate) async fn acknowledge(&self, attempts: &[AttemptId]) -> io::Result<()> {
        let mut outbox = self.outbox.lock().await;
        attempts
            .iter()
            .try_for_each(|attempt| outbox.acknowledge(attempt))
    }

    /// Whether nothing waits.
    pub(crate) async fn is_empty(&self) -> bool {
        self.outbox.lock().await.is_empty()
    }
}

async fn write(mut orders: mpsc::Receiver<Order>, outbox: Arc<Mutex<Outbox>>) {
    let mut taken = Vec::with_capacity(TOGETHER);
    while orders.recv_many(&mut taken, TOGETHER).await > 0 {
        let (outcomes, done): (Vec<_>, Vec<_>) = taken.drain(..).unzip();
        let outbox: OwnedMutexGuard<Outbox> = Arc::clone(&outbox).lock_owned().await;
        let written = tokio::task::spawn_blocking(move || put(outbox, outcomes)).await;
        let results = written.unwrap_or_default();
        for (done, result) in done.into_iter().zip(results) {
            drop(done.send(result));
        }
    }
}

/// Writes all together; where that fails, one by one, so that one that cannot be written stops no other.
fn put(
    mut outbox: OwnedMutexGuard<Outbox>,
    outcomes: Vec<EndedAttempt>,
) -> Vec<Result<(), String>> {
    if outbox.put(outcomes.clone()).is_ok() {
        // Nobody can have told the server: that takes this lock.
        crash::point(WRITTEN);
        return vec![Ok(()); outcomes.len()];
    }
    let mut one = |outcome| outbox.put(vec![outcome]).map_err(|error| error.to_string());
    outcomes.into_iter().map(&mut one).collect()
}
