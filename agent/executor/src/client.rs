//! The other side of an executor's socket, for programs that run containers. May not: decide anything.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use regatta_model::container::{Ended, Message, Numbered, Request};

use crate::Error;
use crate::connection::{frame, read_frame};

/// A connection to an executor; clones share it. It is closed when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

/// What an executor said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Version of its program.
    pub version: String,
    /// Which life of the executor this is: larger each time.
    pub incarnation: u64,
    /// Its process id.
    pub pid: u32,
    /// What the host's kernel gives, one line each.
    pub features: Vec<String>,
}

#[derive(Debug)]
struct Inner {
    writer: Mutex<UnixStream>,
    shared: Arc<Shared>,
    next: AtomicU64,
    about: About,
}

/// What the reading thread shares with those that ask.
#[derive(Debug)]
struct Shared {
    /// Who waits for which answer; none once the connection is closed.
    waiting: Mutex<Option<BTreeMap<u64, mpsc::SyncSender<Message>>>>,
    closed: Condvar,
}

impl Client {
    /// Connects, and says hello. `on_ended` hears of every container that ends from now on; it is called from
    /// a thread of the client's own and must not call [`Client::request`].
    ///
    /// # Errors
    /// Nobody listens there, or it is no executor.
    pub fn connect(
        socket: &Path,
        on_ended: impl Fn(Ended) + Send + 'static,
    ) -> Result<Self, Error> {
        let stream = UnixStream::connect(socket)
            .map_err(|error| Error::io("connect to the executor at", socket, &error))?;
        let reader = stream
            .try_clone()
            .map_err(|error| Error::io("use the connection to", socket, &error))?;
        let shared = Arc::new(Shared {
            waiting: Mutex::new(Some(BTreeMap::new())),
            closed: Condvar::new(),
        });
        let for_reader = Arc::clone(&shared);
        thread::Builder::new()
            .name("executor-client".to_owned())
            .spawn(move || for_reader.read(reader, &on_ended))
            .map_err(|error| Error::Host(format!("cannot start a thread: {error}")))?;
        let mut inner = Inner {
            writer: Mutex::new(stream),
            shared,
            next: AtomicU64::new(1),
            about: About {
                version: String::new(),
                incarnation: 0,
                pid: 0,
                features: Vec::new(),
            },
        };
        match inner.request(Request::Hello)? {
            Message::Hello {
                version,
                incarnation,
                pid,
                features,
                ..
            } => {
                inner.about = About {
                    version,
                    incarnation,
                    pid,
                    features,
                };
                Ok(Self {
                    inner: Arc::new(inner),
                })
            }
            other => Err(Error::Connection(format!("no greeting but {other:?}"))),
        }
    }

    /// What the executor said of itself.
    pub fn about(&self) -> &About {
        &self.inner.about
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// The connection is closed.
    pub fn request(&self, request: Request) -> Result<Message, Error> {
        self.inner.request(request)
    }

    /// Whether the executor is gone (or its connection).
    pub fn is_closed(&self) -> bool {
        lock(&self.inner.shared.waiting).is_none()
    }

    /// Waits until the executor is gone, `most` at longest; whether it is.
    pub fn wait_closed(&self, most: Duration) -> bool {
        let waiting = lock(&self.inner.shared.waiting);
        let (waiting, _) = self
            .inner
            .shared
            .closed
            .wait_timeout_while(waiting, most, |waiting| waiting.is_some())
            .unwrap_or_else(PoisonError::into_inner);
        waiting.is_none()
    }
}

impl Inner {
    fn request(&self, body: Request) -> Result<Message, Error> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let bytes = frame(&Numbered { number, body })
            .map_err(|error| Error::Connection(error.to_string()))?;
        let (answer, answered) = mpsc::sync_channel(1);
        match &mut *lock(&self.shared.waiting) {
            Some(waiting) => drop(waiting.insert(number, answer)),
            None => return Err(closed()),
        }
        if lock(&self.writer).write_all(&bytes).is_err() {
            return Err(closed());
        }
        answered.recv().map_err(|_| closed())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Wakes the reading thread, which then ends.
        let _gone = lock(&self.writer).shutdown(Shutdown::Both);
    }
}

impl Shared {
    fn read(&self, mut stream: UnixStream, on_ended: &impl Fn(Ended)) {
        while let Ok(Some(frame)) = read_frame(&mut stream) {
            let Ok(message) = serde_json::from_slice::<Numbered<Message>>(&frame) else {
                break;
            };
            if let Message::Ended(ended) = message.body {
                on_ended(ended);
                continue;
            }
            let waiter = match &mut *lock(&self.waiting) {
                Some(waiting) => waiting.remove(&message.number),
                None => None,
            };
            if let Some(waiter) = waiter {
                // Whoever asked may have given up.
                let _gone = waiter.send(message.body);
            }
        }
        *lock(&self.waiting) = None;
        self.closed.notify_all();
    }
}

fn closed() -> Error {
    Error::Connection("it is closed; the executor may have ended".to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
