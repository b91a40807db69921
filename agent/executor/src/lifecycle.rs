//! A container's way through the executor: taken in, ordered from a zygote, cloned, finished, told. May not:
//! wait.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use regatta_model::container::{ContainerSpec, Ended, Ending, Message};

use crate::container::{Container, Finished};
use crate::ending::Cause;
use crate::order::Answer;
use crate::output::Output;
use crate::prepare::{Prepared, prepare};
use crate::record::{Live, ended_by};
use crate::server::Server;
use crate::sys::process;
use crate::token::Token;
use crate::users;
use crate::valid;
use crate::writable::to_discard;
use crate::zygote::Zygote;

/// Containers at once: as many as there are ranges of ids.
const CONTAINERS_MOST: u32 = users::RANGES;
/// Ends that nobody took; no further container is started beyond that.
const ENDED_MOST: usize = 10_000;
/// Orders that one zygote has at once; the others wait here.
const ORDERS_AT_ONCE: usize = 4;

impl Server {
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
        let discard = to_discard(&self.host, number, spec);
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
                let ending = Ending::HostFault { message };
                self.settle(ended_by(id, ending));
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
    pub(crate) fn send_orders(&mut self) {
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

    pub(crate) fn on_zygote(&mut self, place: u64) {
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
        // It closed its socket, so it is ending or confused; either way it goes now.
        let _gone = process::signal(dead.pidfd.as_fd(), libc::SIGKILL);
        let _reaped = process::wait_exit(dead.pidfd.as_fd());
        for number in dead.waiting() {
            self.never_cloned(
                *number,
                "its zygote died; the next container gets a new one".to_owned(),
            );
        }
    }

    /// Nothing of a container runs any more.
    pub(crate) fn finish(&mut self, number: u64) {
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
}
