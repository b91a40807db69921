//! The executor's loop: one thread that hears of sockets, pipes and processes through epoll, and never waits
//! for any one of them. May not: hold more than its named bounds.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signalfd::SignalFd;
use regatta_model::container::{Ended, Message};
use regatta_model::log::Stream;

use crate::Error;
use crate::cgroup::Cgroup;
use crate::connection::Connection;
use crate::container::{Container, Flow};
use crate::disk::Gauge;
use crate::ending::Cause;
use crate::host::Host;
use crate::order::Order;
use crate::record::Records;
use crate::sys::process;
use crate::token::Token;
use crate::trash::Trash;
use crate::zygote::Zygote;

/// Clients at once.
const CONNECTIONS_MOST: usize = 64;
/// Events that are taken from the kernel at once.
const EVENTS_AT_ONCE: usize = 64;
/// Scratch space for reading.
const BUFFER: usize = 64 << 10;
/// How often cgroups that were still busy are tried again, in milliseconds.
const LINGER_MS: u64 = 50;
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
    pub(crate) gauge: Gauge,
    /// Who asked for the end, once it was asked for.
    pub(crate) shutdown: Option<Vec<(u64, u64)>>,
    /// Whether the process that started it is gone, where it is to end with it.
    pub(crate) orphaned: bool,
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
            // Others may use what one process started; what that one left alone ends with its lease.
            if self.orphaned && self.shutdown.is_none() && self.connections.is_empty() {
                self.end_all(None);
            }
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
        let watches = self
            .containers
            .values()
            .any(|one| one.upper.watch.is_some());
        if let Some(measured) = self.gauge.due().filter(|_| watches) {
            due = Some(due.map_or(measured, |due| due.min(measured)));
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
        let watched = self.containers.iter().filter_map(|(number, container)| {
            let (layer, most) = container.upper.watch.clone()?;
            Some((*number, layer, most))
        });
        self.gauge.start(now, watched.collect(), &self.epoll);
    }

    fn on_event(&mut self, token: Token) {
        match token {
            Token::Listener => self.accept(),
            Token::Lifeline => {
                // At its end for ever, and so not looked at again.
                let _gone = self.epoll.delete(std::io::stdin());
                self.orphaned = true;
            }
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
            Token::Gauge => {
                let big = self.gauge.on_event(process::monotonic_ns(), &self.epoll);
                if let Some(container) = big.and_then(|big| self.containers.get_mut(&big)) {
                    container.end(Cause::DiskFull);
                }
            }
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
        if waits == connection.waits {
            return;
        }
        connection.waits = waits;
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

    fn say_done(&mut self) {
        for (connection, request) in self.shutdown.take().unwrap_or_default() {
            self.say(connection, request, &Message::Done {});
        }
    }
}

#[derive(Clone, Copy)]
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
