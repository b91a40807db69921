//! A connection to an executor: requests, and whoever waits for a container's end. May not: start an executor, or
//! decide what runs.

use std::collections::BTreeMap;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use regatta_executor::Client;
use regatta_model::Incarnation;
use regatta_model::container::{ContainerSpec, Ended, Message, Request, Status};
use tokio::sync::watch;

use crate::Layout;
use crate::executor::{Error, Life, PAUSE};

/// How long an executor, or a container, that is told to end may take.
const END: Duration = Duration::from_secs(20);

/// How waiting for a container ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// It ended.
    Ended(Box<Ended>),
    /// The connection to the executor broke first.
    Lost,
}

type Waiter = Box<dyn FnOnce(End) + Send>;

/// Who waits for which container. Held by the client's callback, whose drop is the connection's end.
struct Waiters {
    /// `None` once the connection is gone.
    map: Mutex<Option<BTreeMap<String, Waiter>>>,
    gone: watch::Sender<bool>,
}

impl Waiters {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<BTreeMap<String, Waiter>>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, id: &str, waiter: Waiter) {
        match self.lock().as_mut() {
            Some(map) => drop(map.insert(id.to_owned(), waiter)),
            None => waiter(End::Lost),
        }
    }

    fn remove(&self, id: &str) -> Option<Waiter> {
        self.lock().as_mut().and_then(|map| map.remove(id))
    }

    fn close(&self) {
        let waiters = self.lock().take();
        self.gone.send_replace(true);
        for waiter in waiters.unwrap_or_default().into_values() {
            waiter(End::Lost);
        }
    }
}

/// Closes the waiters when the connection's callback is dropped.
struct Closing(Arc<Waiters>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// An executor that this process started, and that ends with it unless others use it.
struct Bound {
    child: Child,
    /// Whether others used it at the end: then it is left to them.
    shared: bool,
}

impl Drop for Bound {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let until = Instant::now() + END;
        while !self.shared && matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(PAUSE);
        }
    }
}

/// How long the other connections of an ending process may take to close.
const OTHERS: Duration = Duration::from_millis(500);

impl Drop for Link {
    fn drop(&mut self) {
        let Some(bound) = &mut self.bound else { return };
        let until = Instant::now() + OTHERS;
        loop {
            let said = self.client.request(Request::Hello);
            bound.shared = matches!(said, Ok(Message::Hello { clients, .. }) if clients > 1);
            if !bound.shared || Instant::now() > until {
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// A connection to an executor.
pub struct Link {
    client: Client,
    incarnation: Incarnation,
    features: Vec<String>,
    waiters: Arc<Waiters>,
    bound: Option<Bound>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}

impl Link {
    /// Connects to the executor that listens in this data directory.
    pub(crate) fn connect(layout: &Layout) -> Result<Self, Error> {
        let map = Mutex::new(Some(BTreeMap::new()));
        let waiters = Arc::new(Waiters {
            map,
            gone: watch::channel(false).0,
        });
        let closing = Closing(Arc::clone(&waiters));
        let on_ended = move |ended: Ended| {
            let waiter = closing.0.remove(&ended.id);
            if let Some(waiter) = waiter {
                waiter(End::Ended(Box::new(ended)));
            }
        };
        let gone = |error: &dyn std::fmt::Display| Error::Gone(error.to_string());
        let client = Client::connect(&layout.socket(), on_ended).map_err(|error| gone(&error))?;
        let about = client.about();
        let (incarnation, features) = (Incarnation(about.incarnation), about.features.clone());
        Ok(Self {
            client,
            incarnation,
            features,
            waiters,
            bound: None,
        })
    }

    /// This process started it.
    pub(crate) fn keep(&mut self, mut child: Child, life: Life) {
        match life {
            Life::Bound => {
                self.bound = Some(Bound {
                    child,
                    shared: false,
                });
            }
            Life::Own => {
                // Somebody has to take its exit status, or it stays as a zombie when it ends.
                let wait = move || drop(child.wait());
                drop(
                    std::thread::Builder::new()
                        .name("executor-wait".into())
                        .spawn(wait),
                );
            }
        }
    }

    /// The client itself.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Which life of the executor this is.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// What the host's kernel gives, one line each.
    pub fn features(&self) -> &[String] {
        &self.features
    }

    /// Waits until the connection is gone.
    pub async fn gone(&self) {
        // The sender lives in `self`: the only way this ends is by the value.
        drop(self.waiters.gone.subscribe().wait_for(|gone| *gone).await);
    }

    /// Whether the connection is gone.
    pub fn is_gone(&self) -> bool {
        *self.waiters.gone.borrow()
    }

    /// Starts a container; `on_end` hears of its end, once, if this returns without error.
    pub fn start(
        &self,
        spec: ContainerSpec,
        on_end: impl FnOnce(End) + Send + 'static,
    ) -> Result<(), Error> {
        let id = spec.id.clone();
        self.waiters.add(&id, Box::new(on_end));
        let started = self.done(Request::Start {
            spec: Box::new(spec),
        });
        if matches!(started, Err(Error::Refused(_))) {
            drop(self.waiters.remove(&id));
        }
        started
    }

    /// Hears of the end of a container that runs already, at once where it ended. `None`: the
    /// executor does not know it. Blocking.
    pub fn follow(
        &self,
        id: &str,
        on_end: impl FnOnce(End) + Send + 'static,
    ) -> Result<Option<()>, Error> {
        self.waiters.add(id, Box::new(on_end));
        // Asked after the waiter stands, so that no end falls between.
        let known = self.list()?.into_iter().find(|status| status.id == id);
        match known {
            None => {
                drop(self.waiters.remove(id));
                Ok(None)
            }
            Some(Status { ended: None, .. }) => Ok(Some(())),
            Some(Status {
                ended: Some(ended), ..
            }) => {
                if let Some(waiter) = self.waiters.remove(id) {
                    waiter(End::Ended(Box::new(ended)));
                }
                Ok(Some(()))
            }
        }
    }

    /// Ends a container.
    pub fn stop(&self, id: &str) -> Result<(), Error> {
        self.done(Request::Stop { id: id.to_owned() })
    }

    /// Ends a container, waits for its end and forgets it. Blocking, for up to the time that an executor
    /// may take for it.
    pub fn end(&self, id: &str) {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let tell = move |_| {
            // Nobody waits any more: then it is of no use.
            let _ = tell.send(());
        };
        if let Ok(Some(())) = self.follow(id, tell) {
            drop(self.stop(id));
            let _ = told.recv_timeout(END);
        }
        drop(self.forget(id));
    }

    /// Sends a signal to a container's program.
    pub fn signal(&self, id: &str, signal: i32) -> Result<(), Error> {
        self.done(Request::Signal {
            id: id.to_owned(),
            signal,
        })
    }

    /// Lets containers run for so long from now on.
    pub fn renew(&self, ids: Vec<String>, lease_ms: u64) -> Result<(), Error> {
        self.done(Request::Renew { ids, lease_ms })
    }

    /// Drops what the executor knows of an ended container.
    pub fn forget(&self, id: &str) -> Result<(), Error> {
        self.done(Request::Forget { id: id.to_owned() })
    }

    /// Every container that the executor knows.
    pub fn list(&self) -> Result<Vec<Status>, Error> {
        match self.request(Request::List)? {
            Message::Containers { containers } => Ok(containers),
            other => Err(Error::Gone(format!("it answered a list with {other:?}"))),
        }
    }

    fn done(&self, request: Request) -> Result<(), Error> {
        self.request(request).map(drop)
    }

    fn request(&self, request: Request) -> Result<Message, Error> {
        match self.client.request(request) {
            Ok(Message::Refused { message }) => Err(Error::Refused(message)),
            Ok(message) => Ok(message),
            Err(error) => Err(Error::Gone(error.to_string())),
        }
    }
}
