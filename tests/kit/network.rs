//! Network namespaces of a test's own: a hub, and nodes with a wire each to it. May not: touch an interface of the system.

use std::process::Command;

/// A hub, and nodes that each have a wire to it; gone at the end.
pub struct Network {
    name: String,
    nodes: usize,
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .expect("ip is missing: apt-get install iproute2");
    assert!(
        output.status.success(),
        "ip {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Network {
    /// A hub and so many nodes, each in a namespace.
    pub fn new(nodes: usize) -> Self {
        crate::need_root();
        let name = format!("rg{}", std::process::id());
        let network = Self { name, nodes };
        let hub = network.space(0);
        ip(&["netns", "add", &hub]);
        ip(&["-n", &hub, "link", "set", "lo", "up"]);
        for node in 1..=nodes {
            let (space, port) = (network.space(node), format!("port{node}"));
            ip(&["netns", "add", &space]);
            ip(&[
                "-n", &hub, "link", "add", &port, "type", "veth", "peer", "name", "wire", "netns",
                &space,
            ]);
            let ends = [(&hub, port.as_str(), 1), (&space, "wire", 2)];
            for (space, interface, end) in ends {
                let address = format!("10.77.{node}.{end}/30");
                ip(&["-n", space, "address", "add", &address, "dev", interface]);
                ip(&["-n", space, "link", "set", interface, "up"]);
            }
            ip(&["-n", &space, "link", "set", "lo", "up"]);
        }
        network
    }

    fn space(&self, node: usize) -> String {
        format!("{}-{node}", self.name)
    }

    /// The hub's address as a node sees it.
    pub fn hub(&self, node: usize) -> String {
        format!("10.77.{node}.1")
    }

    /// The words that run a command inside a node, or inside the hub, which is 0.
    pub fn inside(&self, node: usize) -> Vec<String> {
        // `ip netns exec` would hide the control groups behind a /sys of its own.
        let space = format!("--net=/run/netns/{}", self.space(node));
        ["nsenter", &space, "--"].map(str::to_owned).to_vec()
    }

    /// Cuts a node's wire.
    pub fn cut(&self, node: usize) {
        let port = format!("port{node}");
        ip(&["-n", &self.space(0), "link", "set", &port, "down"]);
    }

    /// What is sent to a node is lost; what it sends arrives.
    pub fn deafen(&self, node: usize) {
        self.queue(&self.space(0), &format!("port{node}"), &["blackhole"]);
    }

    /// What a node sends is lost; what is sent to it arrives.
    pub fn mute(&self, node: usize) {
        self.queue(&self.space(node), "wire", &["blackhole"]);
    }

    /// Makes a node's wire slow: so many kilobytes a second.
    pub fn slow(&self, node: usize, kilobytes: u32) {
        let rate = format!("{}kbit", kilobytes * 8);
        let wire = ["tbf", "rate", &rate, "burst", "16kb", "latency", "2s"];
        self.queue(&self.space(0), &format!("port{node}"), &wire);
    }

    fn queue(&self, space: &str, interface: &str, discipline: &[&str]) {
        let output = Command::new("tc")
            .args(["-n", space, "qdisc", "replace", "dev", interface, "root"])
            .args(discipline)
            .output()
            .expect("tc is missing: apt-get install iproute2");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Makes a node's wire whole again.
    pub fn mend(&self, node: usize) {
        let port = format!("port{node}");
        ip(&["-n", &self.space(0), "link", "set", &port, "up"]);
        for (space, interface) in [(self.space(0), port.as_str()), (self.space(node), "wire")] {
            // Where there was no discipline there is nothing to take away.
            drop(
                Command::new("tc")
                    .args(["-n", &space, "qdisc", "del", "dev", interface, "root"])
                    .output(),
            );
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for node in 0..=self.nodes {
            let space = self.space(node);
            drop(
                Command::new("ip")
                    .args(["netns", "delete", &space])
                    .output(),
            );
        }
    }
}
