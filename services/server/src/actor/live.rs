//! Where open runs stand, for everybody to read without asking the actor. May not: say anything that is not recorded.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use regatta_model::RunId;
use tokio::sync::watch;

/// Where an open run stands, beyond what is recorded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LiveRun {
    /// The number of its last recorded event.
    pub(crate) sequence: u64,
    /// Attempts that hosts hold.
    pub(crate) running: u64,
}

/// All open runs, and a signal that something was recorded.
#[derive(Debug)]
pub(crate) struct Live {
    runs: RwLock<BTreeMap<RunId, LiveRun>>,
    changed: watch::Sender<u64>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            runs: RwLock::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Live {
    pub(crate) fn get(&self, run: &RunId) -> Option<LiveRun> {
        self.runs
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(run)
            .copied()
    }

    /// Ready again each time that something was recorded.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Forgets everything: this server leads no more.
    pub(crate) fn clear(&self) {
        self.runs
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.changed
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn set(&self, changes: Vec<(RunId, Option<LiveRun>)>) {
        {
            let mut runs = self.runs.write().unwrap_or_else(PoisonError::into_inner);
            for (run, live) in changes {
                match live {
                    Some(live) => runs.insert(run, live),
                    None => runs.remove(&run),
                };
            }
        }
        self.changed
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}
