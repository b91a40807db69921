//! What stands between a client and a registry in these tests: a relay that breaks connections, and a server
//! that gives fixed answers and remembers what it was asked. May not: outlive its test.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Passes bytes to and from a registry, and breaks a connection after it gave so many.
pub struct Relay {
    pub port: u16,
    /// The `Range` headers that went by.
    pub ranges: Arc<Mutex<Vec<String>>>,
    pub broken: Arc<AtomicUsize>,
}

impl Relay {
    /// Breaks the first `times` connections that give more than `after` bytes.
    pub fn start(to: u16, after: usize, times: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Self {
            port: listener.local_addr().unwrap().port(),
            ranges: Arc::default(),
            broken: Arc::default(),
        };
        let (ranges, broken) = (Arc::clone(&relay.ranges), Arc::clone(&relay.broken));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else {
                    return;
                };
                let (ranges, broken) = (Arc::clone(&ranges), Arc::clone(&broken));
                let (from_client, to_server) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || requests(from_client, to_server, &ranges));
                std::thread::spawn(move || answers(server, client, after, times, &broken));
            }
        });
        relay
    }
}

fn requests(client: TcpStream, mut server: TcpStream, ranges: &Mutex<Vec<String>>) {
    let mut client = BufReader::new(client);
    let mut line = Vec::new();
    while client.read_until(b'\n', &mut line).is_ok_and(|got| got > 0) {
        let text = String::from_utf8_lossy(&line).to_ascii_lowercase();
        if let Some(range) = text.strip_prefix("range: ") {
            ranges.lock().unwrap().push(range.trim().to_owned());
        }
        if server.write_all(&line).is_err() {
            break;
        }
        line.clear();
    }
    drop(server.shutdown(Shutdown::Write));
}

fn answers(
    mut server: TcpStream,
    mut client: TcpStream,
    after: usize,
    times: usize,
    broken: &AtomicUsize,
) {
    let mut given = 0;
    let mut buffer = [0; 16 << 10];
    while let Ok(got) = server.read(&mut buffer) {
        if got == 0 || client.write_all(&buffer[..got]).is_err() {
            break;
        }
        given += got;
        let may = || {
            broken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| {
                (n < times).then_some(n + 1)
            })
        };
        if given > after && may().is_ok() {
            break;
        }
    }
    drop(client.shutdown(Shutdown::Both));
    drop(server.shutdown(Shutdown::Both));
}

/// One request that a [`Fixed`] server got.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET /path`
    pub line: String,
    /// Lower-case names.
    pub headers: Vec<(String, String)>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// A server that answers by a function.
pub struct Fixed {
    pub port: u16,
    pub asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fixed {
    /// `answer` gives the whole answer, head and body; connections are closed after it.
    pub fn start(
        address: &str,
        answer: impl Fn(&Asked, usize) -> Vec<u8> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let kept = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let Some(request) = read_head(&stream) else {
                    continue;
                };
                let number = {
                    let mut kept = kept.lock().unwrap();
                    kept.push(request.clone());
                    kept.len()
                };
                drop(stream.write_all(&answer(&request, number)));
            }
        });
        Self { port, asked }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn read_head(stream: &TcpStream) -> Option<Asked> {
    // Byte by byte: a body may follow, and is somebody else's to read. A TLS handshake is hung up on.
    let mut first = [0];
    if stream.peek(&mut first).ok()? == 0 || first == [0x16] {
        return None;
    }
    let mut reader = BufReader::with_capacity(1, stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let first = line.trim().rsplit_once(' ')?.0.to_owned();
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else {
            return Some(Asked {
                line: first,
                headers,
            });
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// An answer with these headers and body.
pub fn answer(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// A registry that takes uploads in pieces only: a request above `most` bytes gets 413.
pub struct Pieces {
    pub port: u16,
    /// What was uploaded so far.
    pub content: Arc<Mutex<Vec<u8>>>,
    /// `METHOD length`, in order.
    pub requests: Arc<Mutex<Vec<String>>>,
}

impl Pieces {
    pub fn start(most: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let pieces = Self {
            port: listener.local_addr().unwrap().port(),
            content: Arc::default(),
            requests: Arc::default(),
        };
        let (content, requests) = (Arc::clone(&pieces.content), Arc::clone(&pieces.requests));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let Some(asked) = read_head(&stream) else {
                    continue;
                };
                let length = asked
                    .header("content-length")
                    .map_or(0, |n| n.parse().unwrap());
                let method = asked.line.split(' ').next().unwrap_or_default();
                requests.lock().unwrap().push(format!("{method} {length}"));
                let mut reply = stream.try_clone().unwrap();
                let place = [("Location", "/upload/1?state=x")];
                drop(reply.write_all(&match method {
                    "HEAD" => answer("404 Not Found", &[], b""),
                    "POST" => {
                        content.lock().unwrap().clear();
                        answer("202 Accepted", &place, b"")
                    }
                    _ if length > most => answer("413 Payload Too Large", &[], b""),
                    _ => {
                        let mut body = vec![0; length];
                        (&stream).read_exact(&mut body).unwrap();
                        content.lock().unwrap().extend_from_slice(&body);
                        let status = if method == "PUT" {
                            "201 Created"
                        } else {
                            "202 Accepted"
                        };
                        answer(status, &place, b"")
                    }
                }));
            }
        });
        pieces
    }
}
