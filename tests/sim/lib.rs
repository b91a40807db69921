//! A whole fleet in one thread and in virtual time: the real scheduler, the agents' real reconcile logic and the real
//! judge, around a model of the database, of the network, and of all that goes wrong with them. One seed decides
//! everything that happens, so a seed is a bug report.
//! May not: wait, read a clock, or depend on the order of a hash map.

pub mod chance;
pub mod check;
mod faults;
mod hosts;
mod reports;
mod runs;
mod servers;
pub mod setup;
mod store;
mod trace;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use regatta_model::wire::{SyncRequest, SyncResponse};
use regatta_model::{AttemptId, RunId};
use regatta_verdict::trust::quarantined_most;

use chance::Chance;
use check::{Checker, Violation};
use hosts::{Ending, Host};
use servers::Server;
use setup::{Plant, Setup};
use store::{Db, RunRow};
use trace::Trace;

/// The fleet's lease, in milliseconds.
const LEASE_MS: u64 = 30_000;
/// How long a leader leads without renewal, in milliseconds.
const LEADER_MS: u64 = 5_000;
/// How long a client waits before it asks again.
const CLIENT_AGAIN_MS: u64 = 2_000;

/// Something that will happen.
#[derive(Clone, Debug)]
enum Ev {
    /// A host's agent speaks, unless it was told to at another moment since.
    Wake {
        host: usize,
        number: u64,
    },
    /// Nobody answered.
    Timeout {
        host: usize,
        life: u64,
        exchange: u64,
    },
    /// A sync arrives at a server.
    Request {
        server: usize,
        request: Box<Request>,
    },
    /// A server's answer arrives.
    Answer {
        host: usize,
        life: u64,
        exchange: u64,
        answer: Box<SyncResponse>,
    },
    /// A server answers that it does not lead, or is not there.
    Refused {
        host: usize,
        life: u64,
        exchange: u64,
    },
    /// A container comes to its own end. (`life`: of the executor's process.)
    Ends {
        host: usize,
        life: u64,
        attempt: AttemptId,
        ending: Ending,
    },
    /// An outcome is on a host's disk.
    Written {
        host: usize,
        life: u64,
        attempt: AttemptId,
    },
    /// A host looks whether its lease is over.
    LeaseEnds {
        host: usize,
        life: u64,
    },
    /// A host that hung goes on.
    Resumes {
        host: usize,
    },
    /// A host or an agent is there again.
    Starts {
        host: usize,
        life: u64,
        reborn: bool,
    },
    /// A server's steps. (`life`: of its process.)
    Turn {
        server: usize,
        life: u64,
    },
    Commit {
        server: usize,
        life: u64,
    },
    Publish {
        server: usize,
        life: u64,
    },
    Lead {
        server: usize,
        life: u64,
    },
    Tick {
        server: usize,
        life: u64,
    },
    Restart {
        server: usize,
    },
    /// A client's wish arrives at a server.
    Wish {
        server: usize,
        wish: Wish,
    },
    /// A client asks for it, again if need be.
    Asks {
        wish: Wish,
    },
    /// Something goes wrong.
    Fault,
    /// From now on nothing goes wrong any more.
    Calm,
}

/// What clients want.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    Submit(usize),
    Cancel(usize),
}

/// A sync on its way.
#[derive(Clone, Debug)]
struct Request {
    host: usize,
    life: u64,
    exchange: u64,
    body: SyncRequest,
}

struct Scheduled {
    at: u64,
    order: u64,
    ev: Ev,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// A run that a client will submit.
struct Planned {
    id: RunId,
    row: RunRow,
}

/// How a story ended.
#[derive(Debug)]
pub struct Story {
    pub violation: Option<Violation>,
    /// The last lines, where a trace was wanted.
    pub trace: String,
    pub events: u64,
    /// Milliseconds of virtual time.
    pub lasted_ms: u64,
    pub attempts: u64,
    pub host_faults: u64,
    pub takeovers: u64,
    /// Hosts that a rule quarantined.
    pub quarantines: u64,
    /// A digest of all that was recorded: equal for equal seeds.
    pub digest: u64,
}

/// A world.
pub struct World {
    setup: Setup,
    now: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    events: u64,
    chance: Chance,
    calm: bool,
    hosts: Vec<Host>,
    servers: Vec<Server>,
    db: Db,
    planned: Vec<Planned>,
    /// What clients were told.
    granted: BTreeSet<Wish>,
    checker: Checker,
    trace: Trace,
    takeovers: u64,
}

/// Which of the world's runs this is.
fn run_index(id: &RunId) -> usize {
    id.as_str()[1..].parse().expect("a run of this world")
}

impl World {
    pub fn new(setup: Setup) -> Self {
        let mut chance = Chance::new(setup.seed);
        let hosts = (0..setup.hosts).map(|index| Host::new(index, &setup, &mut chance));
        let hosts: Vec<Host> = hosts.collect();
        let bad = hosts.iter().filter(|host| host.spoils()).count();
        let few_are_bad = bad <= quarantined_most(hosts.len());
        let servers = (0..setup.servers).map(|_| Server::default()).collect();
        let planned = (0..setup.runs)
            .map(|index| Planned {
                id: format!("r{index}").parse().expect("a fine name"),
                row: RunRow::planned(index, &setup, &mut chance),
            })
            .collect();
        let mut world = Self {
            now: 0,
            queue: BinaryHeap::new(),
            order: 0,
            events: 0,
            chance,
            calm: false,
            hosts,
            servers,
            db: Db::new(setup.plant != Some(Plant::NoFencing)),
            planned,
            granted: BTreeSet::new(),
            checker: Checker::new(few_are_bad),
            trace: Trace::new(setup.trace),
            takeovers: 0,
            setup,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for server in 0..self.servers.len() {
            self.start_server(server);
        }
        for host in 0..self.hosts.len() {
            let after = self.chance.within(0, 1000);
            self.at(
                after,
                Ev::Starts {
                    host,
                    life: 0,
                    reborn: true,
                },
            );
        }
        for index in 0..self.planned.len() {
            let spread = if index == 0 {
                2_000
            } else {
                self.setup.unkind_ms / 2
            };
            let after = self.chance.within(500, spread);
            self.at(
                after,
                Ev::Asks {
                    wish: Wish::Submit(index),
                },
            );
            if self.chance.permille(250) && index > 0 {
                let after = after + self.chance.within(1_000, self.setup.unkind_ms / 2);
                self.at(
                    after,
                    Ev::Asks {
                        wish: Wish::Cancel(index),
                    },
                );
            }
        }
        self.at(self.setup.fault_every_ms, Ev::Fault);
        self.at(self.setup.unkind_ms, Ev::Calm);
    }

    fn at(&mut self, after: u64, ev: Ev) {
        self.order += 1;
        let scheduled = Scheduled {
            at: self.now + after,
            order: self.order,
            ev,
        };
        self.queue.push(Reverse(scheduled));
    }

    /// Lets everything happen until all is over, or a rule is broken.
    pub fn play(mut self) -> Story {
        let end = self.setup.unkind_ms + self.setup.calm_ms;
        let submitted: BTreeSet<RunId> = self.planned.iter().map(|run| run.id.clone()).collect();
        let mut unsettled = None;
        while self.checker.broken.is_none() {
            let Some(Reverse(next)) = self.queue.pop() else {
                break;
            };
            self.now = next.at;
            self.events += 1;
            self.happen(next.ev);
            if self.calm && self.events.is_multiple_of(64) && self.db.is_done(&submitted) {
                break;
            }
            if self.now > end {
                unsettled = self.unsettled(&submitted);
                break;
            }
        }
        if self.checker.broken.is_none() {
            self.checker.ended(&self.db, unsettled);
        }
        self.tell()
    }

    fn unsettled(&self, submitted: &BTreeSet<RunId>) -> Option<String> {
        let open = submitted
            .iter()
            .find(|id| !self.db.runs.get(*id).is_some_and(|run| run.over))?;
        let views = self.servers.iter().filter_map(|server| server.view(open));
        Some(format!(
            "{open} is not over {} s after the last fault: {:?}",
            self.setup.calm_ms / 1000,
            views.collect::<Vec<_>>()
        ))
    }

    fn tell(self) -> Story {
        let ends = self.db.ends.values().flatten();
        let faults = ends
            .clone()
            .filter(|(_, end)| end.blame == Some(regatta_model::Blame::Host));
        let mut digest: u64 = 0xcbf2_9ce4_8422_2325;
        for ((cell, ordinal), end) in ends.clone() {
            let text = format!("{cell} {ordinal} {} {:?}", end.host, end.outcome);
            for byte in text.bytes() {
                digest = (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        Story {
            events: self.events,
            lasted_ms: self.now,
            attempts: ends.clone().count() as u64,
            host_faults: faults.count() as u64,
            takeovers: self.takeovers,
            quarantines: self.checker.quarantines,
            digest,
            trace: self.trace.text(),
            violation: self.checker.broken,
        }
    }

    fn happen(&mut self, ev: Ev) {
        match ev {
            Ev::Wake { host, number } => self.wake(host, number),
            Ev::Timeout {
                host,
                life,
                exchange,
            } => self.no_answer(host, life, exchange, "no answer"),
            Ev::Request { server, request } => self.request_arrives(server, *request),
            Ev::Answer {
                host,
                life,
                exchange,
                answer,
            } => self.answer_arrives(host, life, exchange, *answer),
            Ev::Refused {
                host,
                life,
                exchange,
            } => self.no_answer(host, life, exchange, "refused"),
            Ev::Ends {
                host,
                life,
                attempt,
                ending,
            } => self.container_ends(host, life, attempt, ending),
            Ev::Written {
                host,
                life,
                attempt,
            } => self.written(host, life, &attempt),
            Ev::LeaseEnds { host, life } => self.lease_ends(host, life),
            Ev::Resumes { host } => self.resumes(host),
            Ev::Starts { host, life, reborn } => self.starts(host, life, reborn),
            Ev::Turn { server, life } => self.turn(server, life),
            Ev::Commit { server, life } => self.commit(server, life),
            Ev::Publish { server, life } => self.publish(server, life),
            Ev::Lead { server, life } => self.lead(server, life),
            Ev::Tick { server, life } => self.tick(server, life),
            Ev::Restart { server } => self.start_server(server),
            Ev::Wish { server, wish } => self.wish_arrives(server, wish),
            Ev::Asks { wish } => self.asks(wish),
            Ev::Fault => self.fault(),
            Ev::Calm => self.calm_down(),
        }
    }

    /// A client asks some server, until it is told that it was done.
    fn asks(&mut self, wish: Wish) {
        let (Wish::Submit(index) | Wish::Cancel(index)) = wish;
        if self.granted.contains(&wish) {
            return;
        }
        let submitted = self.granted.contains(&Wish::Submit(index));
        if matches!(wish, Wish::Submit(_)) || submitted {
            let server = self.chance.index(self.servers.len());
            let after = self.delay();
            if !self.is_lost() {
                self.at(
                    after,
                    Ev::Wish {
                        server,
                        wish: wish.clone(),
                    },
                );
            }
        }
        self.at(CLIENT_AGAIN_MS, Ev::Asks { wish });
    }

    fn granted(&mut self, wish: Wish) {
        if let Wish::Submit(index) = wish {
            let id = self.planned[index].id.clone();
            self.checker.acknowledged(&id);
        }
        self.trace
            .say(self.now, || format!("client is told: {wish:?} is done"));
        self.granted.insert(wish);
    }

    /// How long a message is on its way.
    fn delay(&mut self) -> u64 {
        match self.chance.within(0, 99) {
            0 if !self.calm => self.chance.within(500, 8_000),
            1..5 => self.chance.within(20, 300),
            _ => self.chance.within(1, 20),
        }
    }

    fn is_lost(&mut self) -> bool {
        !self.calm && self.chance.permille(self.setup.lost_permille)
    }
}
