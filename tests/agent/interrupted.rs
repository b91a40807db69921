//! News of a host that come while the server's answer is carried out: nothing of the answer is lost.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use regatta_tests::busybox;
use regatta_tests::process::{Host, Server};
use regatta_tests::wait_until;

const BOUND: Duration = Duration::from_secs(60);

/// A way to the server on which uploads wait until they may pass.
struct Gate {
    url: String,
    waiting: Arc<AtomicUsize>,
    open: Arc<AtomicBool>,
}

impl Gate {
    fn new(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let to = server.url.trim_start_matches("http://").to_owned();
        let gate = Self {
            url,
            waiting: Arc::default(),
            open: Arc::default(),
        };
        let (waiting, open) = (Arc::clone(&gate.waiting), Arc::clone(&gate.open));
        // All of these end with the test's process, or with their connections.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&to) else {
                    return;
                };
                let (from_server, to_client) =
                    (server.try_clone().unwrap(), client.try_clone().unwrap());
                let (waiting, open) = (Arc::clone(&waiting), Arc::clone(&open));
                std::thread::spawn(move || pass(from_server, to_client, |_| ()));
                let held = move |bytes: &[u8]| {
                    if bytes.starts_with(b"PUT ") {
                        waiting.fetch_add(1, Ordering::SeqCst);
                        wait_until("uploads may pass", BOUND * 2, || {
                            open.load(Ordering::SeqCst)
                        });
                    }
                };
                std::thread::spawn(move || pass(client, server, held));
            }
        });
        gate
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, before: impl Fn(&[u8])) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        before(&bytes[..count]);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    drop(to.shutdown(std::net::Shutdown::Write));
}

fn submit(server: &Server, test: &str) -> String {
    let matrix = format!(
        "name: interrupted\nimage: busybox\naxes: {{v: [1]}}\ntest:\n  run: |\n    {test}\n"
    );
    let file = server.data.file("matrix.yaml", &matrix);
    let arguments = ["submit", file.to_str().unwrap(), "--server", &server.url];
    server.data.run(arguments).expect(0).out.trim().to_owned()
}

fn until(server: &Server, run: &str, state: &str) {
    wait_until(&format!("{run} is {state}"), BOUND, || {
        let told = server.get(&format!("/api/v1/runs/{run}"));
        told.is_some_and(|told| told["state"] == state)
    });
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}

/// Goes on at the end, whatever happens: a stopped executor cannot be ended.
struct Stopped(u32);

impl Drop for Stopped {
    fn drop(&mut self) {
        signal(self.0, "CONT");
    }
}

#[test]
fn an_attempt_that_is_assigned_while_another_one_ends_is_run() {
    regatta_tests::need_root();
    let server = Server::start(10);
    busybox::import(&server.data);
    let gate = Gate::new(&server);
    let talkative = ["env".to_owned(), "REGATTA_LOG=debug".to_owned()];
    let host = Host::start_in(&talkative, &gate.url, "one", 3);
    // One runs, and has a lease to be renewed; of another one the log is on its way.
    let long = submit(&server, "exec sleep 1000");
    until(&server, &long, "running");
    let uploading = submit(&server, "head -c 100000 /dev/urandom");
    wait_until("a log is on its way", BOUND, || {
        gate.waiting.load(Ordering::SeqCst) == 1
    });
    // The next sync that is answered renews the lease: its last renewal was a whole poll before.
    let synced = |host: &Host| host.log().matches("synced").count();
    let before = synced(&host);
    wait_until("two more syncs", BOUND, || synced(&host) >= before + 2);
    let executor = host.executor_pid().unwrap();
    signal(executor, "STOP");
    let stopped = Stopped(executor);
    let next = submit(&server, "true");
    wait_until("the agent hears of it", BOUND, || {
        host.log().matches("started=1").count() == 3
    });
    // The agent waits for its executor now. Meanwhile the log arrives, and an outcome with it.
    gate.open.store(true, Ordering::SeqCst);
    let outbox = host.data.path().join("outbox");
    wait_until("the outcome is on disk", BOUND, || {
        let files = std::fs::read_dir(&outbox).unwrap().flatten();
        let sizes = files.filter_map(|file| Some(file.metadata().ok()?.len()));
        sizes.sum::<u64>() > 0
    });
    drop(stopped);
    until(&server, &next, "finished");
    until(&server, &uploading, "finished");
    let cancel = ["cancel", &long, "--server", &server.url];
    server.data.run(cancel).expect(0);
    until(&server, &long, "cancelled");
}
