//! Case names and sets of cases, each kept once, and messages within a bound. May not: know a cell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regatta_model::Digest;

use super::CaseNames;

/// A case name's number.
pub(super) type CaseId = u32;

/// A set's number.
pub(super) type SetId = u32;

/// Most bytes of one message that are kept for findings.
const MESSAGE_MOST: usize = 1000;

/// Most bytes of all messages that are kept for findings.
const MESSAGES_BYTES_MOST: usize = 16 << 20;

/// All case names, sets and messages of a run.
#[derive(Default)]
pub(super) struct Cases {
    ids: BTreeMap<Arc<str>, CaseId>,
    names: Vec<Arc<str>>,
    by_digest: BTreeMap<Digest, SetId>,
    by_ids: BTreeMap<Arc<[CaseId]>, SetId>,
    sets: Vec<Arc<[CaseId]>>,
    /// Distinct (set, skipped cases) of cells that simply passed.
    kinds: BTreeMap<(SetId, Arc<[CaseId]>), u32>,
    kind_list: Vec<(SetId, Arc<[CaseId]>)>,
    messages: BTreeSet<Arc<str>>,
    messages_bytes: usize,
}

impl Cases {
    pub(super) fn name(&self, id: CaseId) -> &str {
        at(&self.names, id).map_or("", |name| name)
    }

    /// The number of a name that came before.
    pub(super) fn find(&self, name: &str) -> Option<CaseId> {
        self.ids.get(name).copied()
    }

    fn id(&mut self, name: &str) -> CaseId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        let name: Arc<str> = name.into();
        self.names.push(name.clone());
        self.ids.insert(name, id);
        id
    }

    /// The set of these names; `ids` of it are in the order of the names.
    pub(super) fn set_of(&mut self, names: &CaseNames) -> (SetId, Arc<[CaseId]>) {
        if let Some(set) = names
            .digest
            .as_ref()
            .and_then(|digest| self.by_digest.get(digest))
        {
            return (*set, self.in_order(*set));
        }
        let ids: Arc<[CaseId]> = names.names.iter().map(|name| self.id(name)).collect();
        let set = self.set(ids.clone());
        if let Some(digest) = names.digest {
            self.by_digest.insert(digest, set);
        }
        (set, ids)
    }

    /// The set's cases in the order in which it was first given.
    pub(super) fn in_order(&self, set: SetId) -> Arc<[CaseId]> {
        at(&self.sets, set)
            .cloned()
            .unwrap_or_else(|| Arc::from([]))
    }

    /// The set with exactly these cases, in this order.
    pub(super) fn set(&mut self, ids: Arc<[CaseId]>) -> SetId {
        if let Some(set) = self.by_ids.get(&ids) {
            return *set;
        }
        let set = u32::try_from(self.sets.len()).unwrap_or(u32::MAX);
        self.sets.push(ids.clone());
        self.by_ids.insert(ids, set);
        set
    }

    /// Whether the case is in the set.
    pub(super) fn contains(&self, set: SetId, case: CaseId) -> bool {
        at(&self.sets, set).is_some_and(|ids| self.has(ids, case))
    }

    /// Whether the case is among these, which are sorted by name.
    pub(super) fn has(&self, sorted: &[CaseId], case: CaseId) -> bool {
        let name = self.name(case);
        sorted
            .binary_search_by(|id| self.name(*id).cmp(name))
            .is_ok()
    }

    pub(super) fn kind(&mut self, set: SetId, skipped: &[CaseId]) -> u32 {
        let key = (set, Arc::from(skipped));
        if let Some(kind) = self.kinds.get(&key) {
            return *kind;
        }
        let kind = u32::try_from(self.kind_list.len()).unwrap_or(u32::MAX);
        self.kind_list.push(key.clone());
        self.kinds.insert(key, kind);
        kind
    }

    /// Whether cells that simply passed have different sets of cases.
    pub(super) fn has_several_sets(&self) -> bool {
        let mut sets = self.kind_list.iter().map(|(set, _)| set);
        sets.next()
            .is_some_and(|first| sets.any(|set| set != first))
    }

    /// Set and skipped cases of a kind.
    pub(super) fn of_kind(&self, kind: u32) -> Option<&(SetId, Arc<[CaseId]>)> {
        at(&self.kind_list, kind)
    }

    /// The message, kept once; none where it is empty or there are too many.
    pub(super) fn message(&mut self, text: &str) -> Option<Arc<str>> {
        let text = crate::excerpt::cut(text, MESSAGE_MOST);
        if text.is_empty() {
            return None;
        }
        if let Some(kept) = self.messages.get(text) {
            return Some(kept.clone());
        }
        let sum = self.messages_bytes.saturating_add(text.len());
        if sum > MESSAGES_BYTES_MOST {
            return None;
        }
        self.messages_bytes = sum;
        let text: Arc<str> = text.into();
        self.messages.insert(text.clone());
        Some(text)
    }
}

fn at<T>(list: &[T], index: u32) -> Option<&T> {
    list.get(usize::try_from(index).ok()?)
}
