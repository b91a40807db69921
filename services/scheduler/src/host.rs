//! What is known of one host. May not: decide what it gets.

use std::collections::{BTreeMap, BTreeSet};

use regatta_model::{CellNumber, Digest, HostName, Incarnation, Ordinal, Resources};

use crate::event::{Health, Moment, Policy};
use crate::run::{Run, RunIndex};

/// A host's place in the scheduler's list.
pub(crate) type HostIndex = usize;

/// Most attempts that a host holds for each of its slots: an agent whose attempts are short fetches some ahead.
const HELD_A_SLOT_MOST: u32 = 17;

/// An attempt within the scheduler: small, and copied freely.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Key {
    pub(crate) run: RunIndex,
    pub(crate) cell: CellNumber,
    pub(crate) ordinal: Ordinal,
}

/// How a host holds an attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hold {
    pub(crate) generation: u64,
    /// The host's incarnation when it was assigned; 0 where it was taken up.
    pub(crate) incarnation: Incarnation,
    /// The last sync listed it.
    pub(crate) seen: bool,
    /// The last sync told its end, which is not yet recorded.
    pub(crate) ended: bool,
    /// Why it should be held no longer.
    pub(crate) revoked: Option<&'static str>,
    /// It has one of the host's places; the others wait there for one.
    pub(crate) placed: bool,
    /// What its run asks for.
    pub(crate) asked: Resources,
    /// It has the host to itself.
    pub(crate) exclusive: bool,
}

/// A host.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) name: HostName,
    pub(crate) incarnation: Incarnation,
    pub(crate) health: Health,
    pub(crate) policy: Policy,
    /// It says itself that it cannot work.
    pub(crate) lacks: bool,
    pub(crate) slots: u32,
    /// How many attempts it can be given now.
    pub(crate) room: u32,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) cpu: String,
    /// What its attempts can have together.
    pub(crate) capacity: Resources,
    /// What those ask for that it holds and that did not end. Those that wait there for a place count too: the host
    /// starts them without asking.
    pub(crate) used: Resources,
    /// How many attempts it holds that did not end, and how many of those have it to themselves.
    pub(crate) taking: u32,
    pub(crate) exclusive: u32,
    pub(crate) held: BTreeMap<Key, Hold>,
    /// Images and set-ups that it says that it has.
    pub(crate) ready: BTreeSet<Digest>,
    /// Those that it was given attempts for since it last held nothing.
    pub(crate) coming: BTreeSet<Digest>,
    /// How many of them have a place.
    pub(crate) placed: u32,
    pub(crate) last_sync: Moment,
    /// Its entry in the scheduler's deadlines.
    pub(crate) deadline: Option<Moment>,
}

impl Host {
    /// A host that has not spoken.
    pub(crate) fn new(name: HostName) -> Self {
        Self {
            name,
            incarnation: Incarnation(0),
            health: Health::Lost,
            policy: Policy::Active,
            lacks: false,
            slots: 0,
            room: 0,
            labels: BTreeMap::new(),
            cpu: String::new(),
            capacity: Resources::default(),
            used: Resources::default(),
            taking: 0,
            exclusive: 0,
            held: BTreeMap::new(),
            ready: BTreeSet::new(),
            coming: BTreeSet::new(),
            placed: 0,
            last_sync: Moment(0),
            deadline: None,
        }
    }

    /// Whether it may get anything new.
    pub(crate) fn is_able(&self) -> bool {
        self.health == Health::Ready && self.policy == Policy::Active && !self.lacks
    }

    /// Whether it carries all of these labels.
    pub(crate) fn carries(&self, labels: &BTreeMap<String, String>) -> bool {
        labels
            .iter()
            .all(|(name, value)| self.labels.get(name) == Some(value))
    }

    /// Whether it could ever run an attempt of this run: it carries the labels, and is big enough.
    pub(crate) fn could_run(&self, run: &Run) -> bool {
        self.carries(&run.labels) && self.capacity.holds(&run.asked)
    }

    /// Processors and memory that nothing asks for that it holds.
    pub(crate) fn spare(&self) -> Resources {
        self.capacity.less(&self.used)
    }

    /// Whether there is room for an attempt of this run beside what it holds.
    pub(crate) fn fits(&self, run: &Run) -> bool {
        let alone = self.taking == 0 || !run.exclusive;
        alone && self.exclusive == 0 && self.spare().holds(&run.asked)
    }

    /// Counts an attempt that takes something of the host.
    fn take(&mut self, hold: &Hold) {
        self.used = self.used.plus(&hold.asked);
        self.taking = self.taking.saturating_add(1);
        self.exclusive += u32::from(hold.exclusive);
    }

    /// Holds nothing any more: it is lost.
    pub(crate) fn take_all(&mut self) -> BTreeMap<Key, Hold> {
        (self.room, self.placed, self.taking, self.exclusive) = (0, 0, 0, 0);
        self.used = Resources::default();
        std::mem::take(&mut self.held)
    }

    /// Sets its room from what it said of itself: it has `free` places, some of which are spoken for by attempts that
    /// it does not list yet.
    pub(crate) fn set_room(&mut self, free: u32) {
        let count = |most: usize| u32::try_from(most).unwrap_or(u32::MAX);
        let unseen = count(self.held.values().filter(|hold| !hold.seen).count());
        let taking = count(self.held.values().filter(|hold| !hold.ended).count());
        self.room = free
            .saturating_sub(unseen)
            .min(self.most().saturating_sub(taking));
        (self.used, self.taking, self.exclusive) = (Resources::default(), 0, 0);
        let taking = self.held.values().filter(|hold| !hold.ended);
        for hold in taking.copied().collect::<Vec<_>>() {
            self.take(&hold);
        }
    }

    /// How many attempts it may hold, whatever it says.
    fn most(&self) -> u32 {
        self.slots.saturating_mul(HELD_A_SLOT_MOST)
    }

    /// Takes an attempt; says whether it has a place, as far as one can tell from outside: places go to what came first.
    pub(crate) fn hold(&mut self, key: Key, mut hold: Hold) -> bool {
        hold.placed = self.placed < self.slots;
        self.placed += u32::from(hold.placed);
        self.take(&hold);
        self.held.insert(key, hold);
        hold.placed
    }

    /// Drops an attempt, and counts its place as free where it took one. Says whether it had a place.
    pub(crate) fn release(&mut self, key: Key) -> bool {
        let Some(hold) = self.held.remove(&key) else {
            return false;
        };
        if !hold.ended {
            self.room = self.room.saturating_add(1).min(self.most());
            self.used = self.used.less(&hold.asked);
            self.taking = self.taking.saturating_sub(1);
            self.exclusive = self.exclusive.saturating_sub(u32::from(hold.exclusive));
        }
        self.placed -= u32::from(hold.placed);
        hold.placed
    }

    /// Gives a free place to what waits longest; says to what.
    pub(crate) fn move_up(&mut self) -> Option<Key> {
        if self.placed >= self.slots || self.held.len() <= usize::try_from(self.placed).ok()? {
            return None;
        }
        let waiting = self.held.iter_mut().filter(|(_, hold)| !hold.placed);
        let (key, hold) = waiting.min_by_key(|(_, hold)| hold.generation)?;
        hold.placed = true;
        self.placed += 1;
        Some(*key)
    }
}
