//! What attempts ask for and hosts have: nothing is placed beyond it, and nothing big is kept out for ever.

use regatta_model::Resources;

use super::*;

const GIB: u64 = 1 << 30;

pub(super) fn resources(cpus: u64, gib: u64) -> Resources {
    Resources {
        cpu_millis: cpus * 1000,
        memory_bytes: gib * GIB,
    }
}

pub(super) fn asking(cpus: u64, gib: u64, cells: u64) -> Work {
    Work {
        asked: resources(cpus, gib),
        ..work(cells)
    }
}

pub(super) fn sized(cpus: u64, gib: u64, state: HostState) -> HostState {
    HostState {
        capacity: resources(cpus, gib),
        ..state
    }
}

/// The runs of new assignments.
fn given(effects: &[Effect]) -> Vec<String> {
    let given = effects.iter().filter_map(|effect| match effect {
        Effect::Assign { host, attempt, .. } => Some(format!("{host} {}", attempt.run)),
        _ => None,
    });
    given.collect()
}

#[test]
fn a_host_gets_what_its_memory_and_its_processors_hold() {
    let mut course = Course::new();
    course.submit("memory", asking(0, 4, 100));
    let effects = course.sync("a", sized(64, 15, state(8, &[])));
    assert_eq!(given(&effects), ["a memory"; 3]);
    // What asks for nothing goes beside it.
    assert_eq!(given(&course.submit("free", work(2))), ["a free"; 2]);
    let mut course = Course::new();
    course.submit("cpus", asking(2, 0, 100));
    let effects = course.sync("a", sized(5, 0, state(8, &[])));
    assert_eq!(given(&effects), ["a cpus"; 2]);
    assert_eq!(
        given(&course.record(&attempt("cpus", 0, 1), settled())),
        ["a cpus"]
    );
    let view = course.scheduler.host(&host("a")).unwrap();
    assert_eq!(view.used, resources(4, 0));
    // A host that did not tell what it has gets nothing that asks.
    assert_eq!(given(&course.sync("b", state(8, &[]))), [""; 0]);
}

#[test]
fn what_waits_on_a_host_for_a_place_counts_and_what_ended_there_does_not() {
    let mut course = Course::new();
    course.submit("r", asking(0, 1, 100));
    // It fetches ahead: it has two places, and takes six.
    let ahead = HostState {
        free: 6,
        ..state(2, &[])
    };
    assert_eq!(course.sync("a", sized(8, 3, ahead)).len(), 1 + 3);
    let rest: Vec<Held> = (1..3).map(|n| held(&attempt("r", n, 1), n + 1)).collect();
    let told = HostState {
        free: 4,
        ended: vec![held(&attempt("r", 0, 1), 1)],
        ..state(2, &rest)
    };
    assert_eq!(
        course.sync("a", sized(8, 3, told)),
        [assign("a", "r", 3, 1, 4)]
    );
    // Recording its end frees nothing more.
    assert_eq!(course.record(&attempt("r", 0, 1), settled()), []);
}

#[test]
fn a_host_that_is_lost_frees_what_it_held() {
    let mut course = Course::new();
    course.submit("r", asking(0, 4, 2));
    course.sync("a", sized(4, 4, state(4, &[])));
    course.tick(12_000);
    course.tick(25_000);
    let view = course.scheduler.host(&host("a")).unwrap();
    assert_eq!((view.held, view.used), (0, Resources::default()));
    let effects = course.sync("a", sized(4, 4, state(4, &[])));
    assert_eq!(given(&effects), ["a r"]);
}

/// Two hosts of four processors, full of small attempts of the run `small`, and a big one of `big` that waits for all
/// processors of one. Each tells what it holds at each sync.
struct Crowd {
    course: Course,
    holds: BTreeMap<&'static str, Vec<Held>>,
}

impl Crowd {
    fn new(hosts: &[&'static str]) -> Self {
        let mut course = Course::new();
        course.submit("small", asking(1, 0, 1_000_000));
        let holds = hosts.iter().map(|host| (*host, Vec::new())).collect();
        let mut crowd = Self { course, holds };
        for name in hosts {
            assert_eq!(crowd.sync(name), [format!("{name} small").as_str(); 4]);
        }
        // It has more right to a place than the small ones, and yet no room.
        assert_eq!(crowd.course.submit("big", asking(4, 0, 2)), []);
        crowd
    }

    fn take(&mut self, effects: &[Effect]) -> Vec<String> {
        for effect in effects {
            if let Effect::Assign {
                host,
                attempt,
                generation,
            } = effect
            {
                let holds = self.holds.get_mut(host.as_str()).unwrap();
                holds.retain(|known| known.attempt != *attempt);
                holds.push(held(attempt, *generation));
            }
        }
        given(effects)
    }

    fn sync(&mut self, name: &'static str) -> Vec<String> {
        let holding = self.holds[name].clone();
        // There are places enough; processors are what is scarce.
        let effects = self.course.sync(name, sized(4, 4, state(8, &holding)));
        self.take(&effects)
    }

    /// The oldest attempt on the host ends.
    fn end(&mut self, name: &'static str) -> Vec<String> {
        let ended = self.holds.get_mut(name).unwrap().remove(0).attempt;
        let effects = self.course.record(&ended, settled());
        self.take(&effects)
    }

    /// So many milliseconds pass, and all hosts speak.
    fn pass(&mut self, millis: u64) {
        self.course.now += millis;
        for name in self.holds.keys().copied().collect::<Vec<_>>() {
            self.sync(name);
        }
    }

    /// A small attempt passes the big one, and then nothing ends until a host is due to be reserved for it.
    fn wait_out(&mut self) {
        assert_eq!(self.end("a"), ["a small"]);
        for _ in 0..4 {
            self.pass(9_000);
        }
    }

    fn reserved(&self) -> Option<HostName> {
        let run = self.course.scheduler.run_ids[&run("big")];
        let run = &self.course.scheduler.runs[&run];
        let host = self.course.scheduler.reserved_for(run)?;
        Some(self.course.scheduler.hosts[host].name.clone())
    }
}

#[test]
fn small_attempts_pass_a_big_one_for_a_bounded_time() {
    let mut crowd = Crowd::new(&["a", "b"]);
    // For the length of the lease the gaps that are too narrow are filled.
    for _ in 0..3 {
        assert_eq!(crowd.end("a"), ["a small"]);
        crowd.pass(9_000);
    }
    assert_eq!(crowd.reserved(), None);
    crowd.pass(3_000);
    // Then the first host with a gap becomes free for it; the other one goes on.
    assert_eq!(crowd.end("a"), [""; 0]);
    assert_eq!(crowd.reserved(), Some(host("a")));
    assert_eq!(crowd.end("b"), ["b small"]);
    for _ in 0..2 {
        crowd.pass(9_000);
        assert_eq!(crowd.end("a"), [""; 0]);
        assert_eq!(crowd.end("b"), ["b small"]);
    }
    assert_eq!(crowd.end("a"), ["a big"]);
    assert_eq!(crowd.reserved(), None);
    // What it has, it keeps: its next attempt has the right to the same place.
    assert_eq!(crowd.end("b"), ["b small"]);
    assert_eq!(crowd.end("a"), ["a big"]);
}

#[test]
fn what_asks_for_nothing_goes_on_where_a_host_is_reserved() {
    let mut crowd = Crowd::new(&["a"]);
    crowd.wait_out();
    assert_eq!(crowd.end("a"), [""; 0]);
    assert_eq!(crowd.reserved(), Some(host("a")));
    let effects = crowd.course.submit("free", work(2));
    assert_eq!(crowd.take(&effects), ["a free"; 2]);
    for _ in 0..2 {
        assert_eq!(crowd.end("a"), [""; 0]);
    }
    assert_eq!(crowd.end("a"), ["a big"]);
}

#[test]
fn a_reservation_leaves_a_host_that_gets_nothing_and_moves_where_less_is_lacking() {
    let mut crowd = Crowd::new(&["a", "b"]);
    crowd.wait_out();
    assert_eq!(crowd.end("a"), [""; 0]);
    let policy = |host, policy| Event::PolicySet { host, policy };
    crowd.course.tell(policy(host("a"), Policy::Cordoned));
    assert_eq!(crowd.reserved(), None);
    assert_eq!(crowd.end("b"), [""; 0]);
    assert_eq!(crowd.reserved(), Some(host("b")));
    // Back again, it lacks as much as the other one: nothing moves, until it lacks less.
    let effects = crowd.course.tell(policy(host("a"), Policy::Active));
    assert_eq!(crowd.take(&effects), ["a small"]);
    assert_eq!(crowd.reserved(), Some(host("b")));
    let bigger = sized(6, 4, state(8, &crowd.holds["a"].clone()));
    let effects = crowd.course.sync("a", bigger);
    assert_eq!(crowd.take(&effects), [""; 0]);
    assert_eq!(crowd.reserved(), Some(host("a")));
}

#[test]
fn who_goes_first_is_not_kept_out_by_a_reservation() {
    let mut crowd = Crowd::new(&["a"]);
    crowd.wait_out();
    let urgent = Work {
        priority: 1,
        ..asking(1, 0, 1)
    };
    let effects = crowd.course.submit("urgent", urgent);
    assert_eq!(crowd.take(&effects), [""; 0]);
    assert_eq!(crowd.end("a"), ["a urgent"]);
}
