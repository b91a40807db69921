//! What each request does. May not: wait.

use regatta_model::container::{Message, Request, Status};

use crate::doctor;
use crate::ending::Cause;
use crate::server::Server;
use crate::sys::process;

impl Server {
    /// The answer to a request; none where it comes later.
    pub(crate) fn answer(
        &mut self,
        connection: u64,
        number: u64,
        request: Request,
    ) -> Option<Message> {
        Some(match request {
            Request::Hello => self.hello(connection),
            Request::Start { spec } => match self.start(&spec) {
                Ok(()) => Message::Done {},
                Err(message) => Message::Refused { message },
            },
            Request::Stop { id } => {
                if let Some(container) = self.living(&id) {
                    container.end(Cause::Stopped);
                    Message::Done {}
                } else {
                    self.unknown(&id)
                }
            }
            Request::Signal { id, signal } => self.signal(&id, signal),
            Request::Renew { ids, lease_ms } => {
                let now = process::monotonic_ns();
                for id in ids {
                    // One that ended meanwhile needs none.
                    if let Some(container) = self.living(&id) {
                        container.renew(now, lease_ms);
                    }
                }
                Message::Done {}
            }
            Request::List => self.list(),
            Request::Forget { id } => {
                if self.numbers.contains_key(&id) {
                    return Some(Message::Refused {
                        message: format!("container {id} still runs; stop it first"),
                    });
                }
                self.ended.remove(&id);
                self.records.forget(&id);
                Message::Done {}
            }
            Request::Shutdown => {
                self.end_all(Some((connection, number)));
                return None;
            }
        })
    }

    fn living(&mut self, id: &str) -> Option<&mut crate::container::Container> {
        let number = self.numbers.get(id)?;
        self.containers.get_mut(number)
    }

    /// One that has ended needs no stopping.
    fn unknown(&self, id: &str) -> Message {
        if self.ended.contains_key(id) {
            Message::Done {}
        } else {
            Message::Refused {
                message: format!("there is no container {id}"),
            }
        }
    }

    fn signal(&mut self, id: &str, signal: i32) -> Message {
        const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;
        if !SIGNALS.contains(&signal) {
            return Message::Refused {
                message: format!("{signal} is no signal's number"),
            };
        }
        match self.living(id).map(|container| container.signal(signal)) {
            Some(true) => Message::Done {},
            Some(false) => Message::Refused {
                message: format!("container {id}: its program does not run yet"),
            },
            None => self.unknown(id),
        }
    }

    fn hello(&mut self, connection: u64) -> Message {
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.hears = true;
        }
        let (major, minor) = doctor::kernel_version();
        let users = if self.host.has_users() {
            "user namespaces: each container has ids of its own"
        } else {
            "user namespaces: none, since this host cannot map the owners of layers; as Docker's default"
        };
        Message::Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            incarnation: self.incarnation,
            pid: std::process::id(),
            clients: u64::try_from(self.connections.len()).unwrap_or(u64::MAX),
            features: vec![
                format!("kernel: {major}.{minor}"),
                users.to_owned(),
                format!("control groups: {}", self.host.hierarchy.describe()),
                "disk limits: exact in memory; on disk looked at four times a second".to_owned(),
            ],
        }
    }

    fn list(&self) -> Message {
        let living = self.numbers.keys().map(|id| Status {
            id: id.clone(),
            ended: None,
        });
        let ended = self.ended.values().map(|ended| Status {
            id: ended.id.clone(),
            ended: Some(ended.clone()),
        });
        let mut containers: Vec<Status> = living.chain(ended).collect();
        containers.sort_by(|one, other| one.id.cmp(&other.id));
        Message::Containers { containers }
    }
}
