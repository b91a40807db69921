//! The server, over HTTP, as clients and agents see it.

mod against;
mod disk;
mod files;
mod fleet;
mod history;
mod http;
mod kit;
mod known;
mod pages;
mod registry;
mod resolved;
mod retention;
mod runs;
mod sets;
mod trust;
mod wire;

#[tokio::test]
async fn a_server_in_a_process_of_its_own() {
    kit::serve_if_told().await;
}
