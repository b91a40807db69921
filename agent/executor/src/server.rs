//! The executor's loop: one thread that hears of sockets, pipes and processes through epoll, and never waits
//! for any one of them. May not: hold more than its named bounds.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signalfd::SignalFd;
use regatta_model::container::{ContainerSpec, Ended, Message};
use regatta_model::log::Stream;

use crate::cgroup::Cgroup;
use crate::connection::Connection;
use crate::container::{Cause, Container, Finished, Flow};
use crate::host::Host;
use crate::order::{Answer, Order};
use crate::output::Output;
use crate::prepare::{Prepared, prepare};
use crate::record::{Live, Records};
use crate::sys::process;
use crate::token::Token;
use crate::trash::Trash;
use crate::valid;
use crate::zygote::Zygote;
use crate::{Error, users};

/// Clients at once.
const CONNECTIONS_MOST: usize = 64;
/// Containers at once: as many as there are ranges of ids.
const CONTAINERS_MOST: u32 = users::RANGES;
/// Ends that nobody took; no further container is started beyond that.
const ENDED_MOST: usize = 10_000;
/// Orders that one zygote has at once; the others wait here.
const ORDERS_AT_ONCE: usize = 4;
/// Events that are taken from the kernel at once.
const EVENTS_AT_ONCE: usize = 64;
/// Scratch space for reading.
const BUFFER: usize = 64 << 10;
/// How often cgroups that were still busy are tried again, in milliseconds.
const LINGER_MS: u64 = 50;
/// How often the sizes of writable layers on disk are looked at, in milliseconds.
const WATCH_MS: u64 = 250;
const MILLISECOND: u64 = 1_000_000;

/// All of an executor's state.
pub(crate) struct Server {
    pub(crate) epoll: Epoll,
    pub(crate) listener: UnixListener,
    pub(crate) signals: SignalFd,
    pub(crate) host: Host,
    pub(crate) records: Records,
    pub(crate) state: PathBuf,
    pub(crate) incarnation: u64,
    pub(crate) zygotes: Vec<Zygote>,
    pub(crate) queue: VecDeque<(Order, Vec<OwnedFd>)>,
    pub(crate) containers: BTreeMap<u64, Container>,
    pub(crate) numbers: BTreeMap<String, u64>,
    pub(crate) ended: BTreeMap<String, Ended>,
    pub(crate) connections: BTreeMap<u64, Connection>,
    pub(crate) next: u64,
    pub(crate) lingering: Vec<Cgroup>,
    pub(crate) trash: Trash,
    pub(crate) watch_at: u64,
    /// Who asked for the end, once it was asked for.
    pub(crate) shutdown: Option<Vec<(u64, u64)>>,
    pub(crate) buffer: Vec<u8>,
}

impl Server {
    /// Runs until the end is asked for and reached.
    pub(crate) fn run(&mut self) -> Result<(), Error> {
        self.buffer = vec![0; BUFFER];
        let mut events = [EpollEvent::empty(); EVENTS_AT_ONCE];
        loop {
            let timeout = self.timeout();
            let count = match self.epoll.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(errno) => return Err(Error::call("wait for events", errno)),
            };
            for event in events.iter().take(count) {
                self.on_event(Token::decode(event.data()));
            }
            self.on_time();
            self.send_orders();
            if self.shutdown.is_some() && self.containers.is_empty() && self.lingering.is_empty() {
                self.say_done();
                return Ok(());
            }
        }
    }

    /// Until the next thing is due.
    fn timeout(&self) -> EpollTimeout {
        let now = process::monotonic_ns();
        let mut due = self.containers.values().filter_map(Container::due).min();
        if !self.lingering.is_empty() {
            let again = now + LINGER_MS * MILLISECOND;
            due = Some(due.map_or(again, |due| due.min(again)));
        }
        if self
            .containers
            .values()
            .any(|container| container.upper.watch.is_some())
        {
            due = Some(due.map_or(self.watch_at, |due| due.min(self.watch_at)));
        }
        due.map_or(EpollTimeout::NONE, |due| {
            let milliseconds = due.saturating_sub(now).div_ceil(MILLISECOND);
            let bounded = i32::try_from(milliseconds).unwrap_or(i32::MAX);
            EpollTimeout::try_from(bounded).unwrap_or(EpollTimeout::ZERO)
        })
    }

    fn on_time(&mut self) {
        let now = process::monotonic_ns();
        for container in self.containers.values_mut() {
            container.look(now);
        }
        self.lingering.retain(|cgroup| {
            // The kernel refused for another reason than processes in it: trying again would not help.
            !cgroup.kill() || !cgroup.try_remove().unwrap_or(true)
        });
        if now >= self.watch_at {
            self.watch_at = now + WATCH_MS * MILLISECOND;
            for container in self.containers.values_mut() {
                if let Some((layer, most)) = &container.upper.watch
                    && crate::disk::exceeds(layer, *most)
                {
                    container.end_now(Cause::DiskFull);
                }
            }
        }
    }

    fn on_event(&mut self, token: Token) {
        match token {
            Token::Listener => self.accept(),
            Token::Lifeline => self.end_all(None),
            Token::Signals => {
                while let Ok(Some(_)) = self.signals.read_signal() {
                    self.end_all(None);
                }
            }
            Token::Zygote(place) => self.on_zygote(place),
            Token::Connection(number) => self.on_connection(number),
            Token::Init(number) => {
                let ended = self
                    .containers
                    .get_mut(&number)
                    .is_some_and(Container::take_exit);
                if ended {
                    self.finish(number);
                }
            }
            Token::Report(number) => self.on_pipe(number, Pipe::Report),
            Token::Out(number) => self.on_pipe(number, Pipe::Output(Stream::Out)),
            Token::Err(number) => self.on_pipe(number, Pipe::Output(Stream::Err)),
            Token::Trash => self.trash.on_event(&self.epoll),
            Token::Unknown => {}
        }
    }

    fn on_pipe(&mut self, number: u64, pipe: Pipe) {
        let Some(container) = self.containers.get_mut(&number) else {
            return;
        };
        let flow = match pipe {
            Pipe::Report => container.read_report(),
            Pipe::Output(stream) => container.read_output(stream, &mut self.buffer),
        };
        if flow == Flow::Closed {
            let fd = match pipe {
                Pipe::Report => &container.report,
                Pipe::Output(Stream::Out) => &container.out,
                Pipe::Output(_) => &container.err,
            };
            let _gone = self.epoll.delete(fd);
        }
    }

    pub(crate) fn watch(
        &self,
        fd: impl AsFd,
        token: Token,
        flags: EpollFlags,
    ) -> Result<(), Errno> {
        self.epoll.add(fd, EpollEvent::new(flags, token.encode()))
    }

    fn accept(&mut self) {
        // One at a time: the listener shows again if more wait.
        let Ok((stream, _)) = self.listener.accept() else {
            return;
        };
        if self.connections.len() >= CONNECTIONS_MOST || !may_ask(stream.as_fd()) {
            return;
        }
        let Ok(connection) = Connection::new(stream) else {
            return;
        };
        let number = self.number();
        if self
            .watch(
                &connection.stream,
                Token::Connection(number),
                EpollFlags::EPOLLIN,
            )
            .is_ok()
        {
            self.connections.insert(number, connection);
        }
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn on_connection(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        match connection.read(&mut self.buffer) {
            Err(_) => self.cut_off(number),
            Ok(requests) => {
                for request in requests {
                    if let Some(answer) = self.answer(number, request.number, request.body) {
                        self.say(number, request.number, &answer);
                    }
                }
                self.flush(number);
            }
        }
    }

    /// Queues a message for a client and sends what it takes.
    pub(crate) fn say(&mut self, number: u64, request: u64, message: &Message) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        if connection.queue(request, message).is_err() {
            self.cut_off(number);
        } else {
            self.flush(number);
        }
    }

    fn flush(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let Ok(waits) = connection.write() else {
            return self.cut_off(number);
        };
        let mut flags = EpollFlags::EPOLLIN;
        flags.set(EpollFlags::EPOLLOUT, waits);
        let mut event = EpollEvent::new(flags, Token::Connection(number).encode());
        let _gone = self.epoll.modify(&connection.stream, &mut event);
    }

    fn cut_off(&mut self, number: u64) {
        if let Some(connection) = self.connections.remove(&number) {
            let _gone = self.epoll.delete(&connection.stream);
        }
    }

    /// Takes a container in, or says why not.
    pub(crate) fn start(&mut self, spec: &ContainerSpec) -> Result<(), String> {
        valid::check(spec)?;
        let id = &spec.id;
        if self.shutdown.is_some() {
            return Err(format!("container {id}: this executor is ending"));
        }
        if self.numbers.contains_key(id) || self.ended.contains_key(id) {
            return Err(format!("container {id} is known already; forget it first"));
        }
        let full = usize::try_from(CONTAINERS_MOST).unwrap_or(usize::MAX);
        if self.containers.len() >= full {
            return Err(format!(
                "container {id}: {CONTAINERS_MOST} containers run already"
            ));
        }
        if self.ended.len() >= ENDED_MOST {
            return Err(format!(
                "container {id}: {ENDED_MOST} outcomes wait to be taken"
            ));
        }
        let ordered = process::monotonic_ns();
        let number = self.number();
        let output = Output::create(&spec.log, spec.limits.output_bytes, self.host.room(number))
            .map_err(|error| {
                format!(
                    "container {id}: cannot make {}: {error}",
                    spec.log.display()
                )
            })?;
        let discard = crate::prepare::to_discard(&self.host, number, spec);
        let live = Live {
            id: id.clone(),
            discard,
        };
        self.records
            .begin(&live)
            .map_err(|error| format!("container {id}: cannot write its record: {error}"))?;
        match prepare(&mut self.host, number, spec) {
            Ok(prepared) => self.order(number, spec, prepared, output, ordered),
            Err(message) => {
                let ending = regatta_model::container::Ending::HostFault { message };
                self.settle(crate::record::ended_by(id, ending));
            }
        }
        Ok(())
    }

    fn order(
        &mut self,
        number: u64,
        spec: &ContainerSpec,
        mut prepared: Prepared,
        output: Output,
        ordered: u64,
    ) {
        let order = prepared.order.take();
        let container = Container::new(spec, prepared, output, ordered);
        for (fd, token) in [
            (&container.report, Token::Report(number)),
            (&container.out, Token::Out(number)),
            (&container.err, Token::Err(number)),
        ] {
            // A pipe that cannot be watched is read at the end.
            let _unwatched = self.watch(fd, token, EpollFlags::EPOLLIN);
        }
        self.numbers.insert(container.id.clone(), number);
        self.containers.insert(number, container);
        self.queue.extend(order);
    }

    /// Gives waiting orders to zygotes with room.
    fn send_orders(&mut self) {
        while let Some((order, fds)) = self.queue.pop_front() {
            let room = self
                .zygotes
                .iter_mut()
                .min_by_key(|zygote| zygote.waiting().len());
            let Some(zygote) = room.filter(|zygote| zygote.waiting().len() < ORDERS_AT_ONCE) else {
                self.queue.push_front((order, fds));
                return;
            };
            let all: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            if let Err(errno) = zygote.send(&order, &all) {
                let message = format!("cannot reach a zygote: {}", errno.desc());
                self.never_cloned(order.number, message);
            }
        }
    }

    fn never_cloned(&mut self, number: u64, message: String) {
        if let Some(container) = self.containers.get_mut(&number) {
            container.set_trouble(message);
            self.finish(number);
        }
    }

    fn on_zygote(&mut self, place: u64) {
        let index = usize::try_from(place).unwrap_or(usize::MAX);
        let Some(zygote) = self.zygotes.get_mut(index) else {
            return;
        };
        match zygote.receive() {
            Ok(Some((
                Answer {
                    number,
                    made: Ok(pid),
                },
                Some(pidfd),
            ))) => {
                self.on_cloned(number, pid, pidfd);
            }
            Ok(Some((Answer { number, made }, _))) => {
                let why = made
                    .err()
                    .map_or("no handle on it", |errno| Errno::from_raw(errno).desc());
                self.never_cloned(number, format!("cannot clone its first process: {why}"));
            }
            Ok(None) | Err(_) => self.replace_zygote(index, place),
        }
    }

    fn on_cloned(&mut self, number: u64, pid: i32, pidfd: OwnedFd) {
        let Some(container) = self.containers.get_mut(&number) else {
            return;
        };
        // The record only helps the next executor to find what the cgroup shows too.
        let _unwritten = self.records.add_init(&container.id, pid);
        container.set_init(pidfd);
        let Some(init) = &container.init else { return };
        let event = EpollEvent::new(EpollFlags::EPOLLIN, Token::Init(number).encode());
        if self.epoll.add(init, event).is_err() {
            container.end_now(Cause::SetupHangs);
        }
    }

    /// A zygote died: what it had not cloned never will be, and another takes its place.
    fn replace_zygote(&mut self, index: usize, place: u64) {
        let Ok(fresh) = Zygote::start(&self.state) else {
            return;
        };
        let _watched = self.watch(&fresh.socket, Token::Zygote(place), EpollFlags::EPOLLIN);
        let Some(zygote) = self.zygotes.get_mut(index) else {
            return;
        };
        let dead = std::mem::replace(zygote, fresh);
        let _gone = self.epoll.delete(&dead.socket);
        let _reaped = process::take_exit(dead.pidfd.as_fd());
        for number in dead.waiting() {
            self.never_cloned(
                *number,
                "its zygote died; the next container gets a new one".to_owned(),
            );
        }
    }

    /// Nothing of a container runs any more.
    fn finish(&mut self, number: u64) {
        let Some(container) = self.containers.remove(&number) else {
            return;
        };
        self.numbers.remove(&container.id);
        for fd in [&container.report, &container.out, &container.err] {
            let _gone = self.epoll.delete(fd);
        }
        if let Some(init) = &container.init {
            let _gone = self.epoll.delete(init);
        }
        let Finished {
            ended,
            cgroup,
            range,
            discard,
        } = container.finish(&mut self.buffer);
        self.host.give_back(range);
        if !cgroup.try_remove().unwrap_or(true) {
            self.lingering.push(cgroup);
        }
        self.trash.discard(&discard);
        // Made only where output was long; empty by now.
        let _absent = fs::remove_dir(self.host.room(number));
        self.settle(ended);
        self.trash.start(&self.epoll);
    }

    /// Writes an end down and tells it.
    fn settle(&mut self, ended: Ended) {
        // Where the disk is full the outcome lives in memory only, as long as this executor does.
        let _unwritten = self.records.end(&ended);
        let hearing: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.hears)
            .map(|(number, _)| *number)
            .collect();
        let message = Message::Ended(ended);
        for number in hearing {
            self.say(number, 0, &message);
        }
        if let Message::Ended(ended) = message {
            self.ended.insert(ended.id.clone(), ended);
        }
    }

    /// Begins the end.
    pub(crate) fn end_all(&mut self, asker: Option<(u64, u64)>) {
        self.shutdown.get_or_insert_default().extend(asker);
        for container in self.containers.values_mut() {
            container.end(Cause::Stopped);
        }
    }

    fn say_done(&mut self) {
        for (connection, request) in self.shutdown.take().unwrap_or_default() {
            self.say(connection, request, &Message::Done {});
        }
    }
}

enum Pipe {
    Report,
    Output(Stream),
}

/// Only root and our own user may ask.
fn may_ask(peer: BorrowedFd<'_>) -> bool {
    let us = nix::unistd::geteuid().as_raw();
    nix::sys::socket::getsockopt(&peer, nix::sys::socket::sockopt::PeerCredentials)
        .is_ok_and(|credentials| credentials.uid() == 0 || credentials.uid() == us)
}
