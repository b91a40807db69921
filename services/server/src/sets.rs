//! Names of cases by the digest of their set, so that agents need not send them with every outcome. May not: believe a
//! digest that was neither computed here nor read from the database, or keep more names than it has room for.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use regatta_model::Digest;
use regatta_model::case::{ToldNames, ToldResults};
use regatta_model::wire::EndedAttempt;
use regatta_store::{CaseSet, Store};

use crate::limits::{SET_READS_MOST, SET_READS_WITHIN, SETS_BYTES_MOST};

/// The sets that came or were asked for last.
#[derive(Default)]
pub(crate) struct Sets {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    sets: HashMap<Digest, Arc<CaseSet>>,
    /// The oldest first.
    order: VecDeque<Digest>,
    bytes: usize,
}

/// Bytes that a set takes in memory.
fn size(set: &CaseSet) -> usize {
    let name = |name: &String| name.capacity() + size_of::<String>();
    set.names.iter().map(name).sum::<usize>() + size_of::<CaseSet>()
}

impl Kept {
    fn keep(&mut self, set: &Arc<CaseSet>) {
        if self.sets.insert(set.digest, Arc::clone(set)).is_some() {
            return;
        }
        self.order.push_back(set.digest);
        self.bytes += size(set);
        while self.bytes > SETS_BYTES_MOST
            && let Some(oldest) = self.order.pop_front()
        {
            let gone = self.sets.remove(&oldest);
            self.bytes -= gone.map_or(0, |set| size(&set));
        }
    }
}

impl Sets {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn none_named(&self) -> Named<'_> {
        Named {
            sets: self,
            known: BTreeMap::new(),
        }
    }

    /// The sets that these outcomes name by digest, as far as they are here or in the database. What cannot be had soon
    /// counts as not known: its names can be asked for.
    pub(crate) async fn named(
        &self,
        store: &dyn Store,
        ended: &[EndedAttempt<ToldResults>],
    ) -> Named<'_> {
        let digest = |end: &EndedAttempt<ToldResults>| match &end.results.names {
            ToldNames::Set(named) => Some(named.set),
            ToldNames::Listed(_) => None,
        };
        let wanted: BTreeSet<Digest> = ended.iter().filter_map(digest).collect();
        let mut known = BTreeMap::new();
        let mut missing = Vec::new();
        {
            let kept = self.kept();
            for digest in wanted {
                match kept.sets.get(&digest) {
                    Some(set) => drop(known.insert(digest, Arc::clone(set))),
                    None => missing.push(digest),
                }
            }
        }
        let reads = async {
            for digest in missing.into_iter().take(SET_READS_MOST) {
                match store.case_set(&digest).await {
                    Ok(Some(set)) => {
                        let set = Arc::new(set);
                        self.kept().keep(&set);
                        known.insert(digest, set);
                    }
                    Ok(None) => {}
                    Err(error) => {
                        tracing::debug!("a set of cases is asked for instead: {error}");
                        break;
                    }
                }
            }
        };
        // The host behind this sync must be heard, whatever the database does.
        drop(tokio::time::timeout(SET_READS_WITHIN, reads).await);
        Named { sets: self, known }
    }
}

/// The sets that one sync can name.
pub(crate) struct Named<'a> {
    sets: &'a Sets,
    known: BTreeMap<Digest, Arc<CaseSet>>,
}

impl Named<'_> {
    /// The set with this digest, if it is known.
    pub(crate) fn get(&self, digest: &Digest) -> Option<Arc<CaseSet>> {
        self.known.get(digest).cloned()
    }

    /// The set of these names, shared with whoever told the same.
    pub(crate) fn learn(&mut self, names: Vec<String>) -> Arc<CaseSet> {
        let set = CaseSet::from(names);
        let mut kept = self.sets.kept();
        let set = if let Some(set) = kept.sets.get(&set.digest) {
            Arc::clone(set)
        } else {
            let set = Arc::new(set);
            kept.keep(&set);
            set
        };
        drop(kept);
        self.known.insert(set.digest, Arc::clone(&set));
        set
    }
}
