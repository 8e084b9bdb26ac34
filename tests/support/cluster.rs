//! A cluster of real nats-servers on loopback. Ports stay the same when nodes restart, because routes name
//! them.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::nats::{request, server_binary, signal};
use super::port::free_port;
use super::relay::Relay;
use super::replication_delay::{Delayed, ReplicationDelay};
use super::wait::until;

/// A leader is elected within 9 s; a busy machine needs longer.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// A restarted node tries for 5 s at a time to fetch what it has missed.
const CATCHES_UP_WITHIN: Duration = Duration::from_secs(120);

/// A port on which nobody listens.
const NOWHERE: u16 = 1;

/// The cluster. Dropping it kills its nodes by pid.
pub(crate) struct Cluster {
    dir: TempDir,
    nodes: Vec<Node>,
    config: String,
    between: Between,
}

/// What lies between the nodes.
enum Between {
    Nothing,
    /// Before the last node.
    Delay(ReplicationDelay),
    /// From each node to each other one.
    Relays(Vec<Vec<Relay>>),
}

struct Node {
    port: u16,
    route_port: u16,
    child: Option<Child>,
}

impl Cluster {
    /// Starts this many nodes and waits until a stream with as many replicas can be created.
    pub(crate) fn start(nodes: usize) -> Self {
        Self::start_with(nodes, "")
    }

    /// Like `start`, with additional top-level lines in the configuration of every node.
    pub(crate) fn start_with(nodes: usize, extra: &str) -> Self {
        Self::start_as(nodes, extra, |_| Between::Nothing)
    }

    /// Like `start`, with a [`ReplicationDelay`] in front of the last node.
    pub(crate) fn start_with_delay(nodes: usize) -> Self {
        Self::start_as(nodes, "", |nodes| {
            Between::Delay(ReplicationDelay::start(nodes.last().unwrap().route_port))
        })
    }

    /// Like `start`, with a relay between every two nodes, so that one can be cut off.
    pub(crate) fn start_with_relays(nodes: usize) -> Self {
        Self::start_as(nodes, "", |nodes| {
            let to_all = |_| nodes.iter().map(|node| Relay::start(node.route_port)).collect();
            Between::Relays((0..nodes.len()).map(to_all).collect())
        })
    }

    fn start_as(nodes: usize, extra: &str, between: impl Fn(&[Node]) -> Between) -> Self {
        for _ in 0..5 {
            let node = || Node { port: free_port(), route_port: free_port(), child: None };
            let mut cluster = Self {
                dir: tempfile::tempdir().unwrap(),
                nodes: (0..nodes).map(|_| node()).collect(),
                config: format!("max_payload: 1MB\n{extra}\n"),
                between: Between::Nothing,
            };
            cluster.between = between(&cluster.nodes);
            // A node that connects to another one finds it running: a second attempt would come a second later.
            for n in (0..nodes).rev() {
                cluster.run(n);
            }
            // Another process may have taken a port in the meantime: start over.
            if cluster.becomes_ready() {
                return cluster;
            }
        }
        panic!("the cluster does not start");
    }

    /// Lets the replicas of the last node lag until the guard is dropped. After four seconds the node would
    /// consider the leaders lost.
    pub(crate) fn delay_last(&self) -> Delayed {
        match &self.between {
            Between::Delay(delay) => delay.begin(),
            _ => panic!("the cluster was started without a delay"),
        }
    }

    /// Cuts a node off from the others, or reconnects it. Its clients stay connected.
    pub(crate) fn cut_off(&self, node: usize, is_cut: bool) {
        let Between::Relays(relays) = &self.between else { panic!("started without relays") };
        for (from, to_all) in relays.iter().enumerate() {
            for (to, relay) in to_all.iter().enumerate() {
                if from == node || to == node {
                    relay.cut(is_cut);
                }
            }
        }
    }

    /// SIGSTOP of one node, or SIGCONT.
    pub(crate) fn freeze(&self, node: usize, is_frozen: bool) {
        signal(self.pid(node), if is_frozen { "STOP" } else { "CONT" });
    }

    /// Makes one node the leader of these streams as soon as it is up to date (nats-server 2.11 and newer).
    pub(crate) fn lead(&self, node: usize, streams: &[String]) {
        let port = self.nodes[0].port;
        let name = format!("n{node}");
        let order = json!({"placement": {"preferred": name}}).to_string();
        for stream in streams {
            until(&format!("{name} leads {stream}"), CATCHES_UP_WITHIN, || {
                let info = request(port, &format!("$JS.API.STREAM.INFO.{stream}"), "").ok()?;
                let info: Value = serde_json::from_str(&info).ok()?;
                let cluster = &info["cluster"];
                let replicas = cluster["replicas"].as_array()?;
                // A leader that steps down stops sending replicas what they miss: all of them are current first.
                let are_current = replicas.iter().all(|replica| replica["current"] == true);
                if !are_current || cluster["leader"] == name {
                    return (are_current && cluster["leader"] == name).then_some(());
                }
                request(port, &format!("$JS.API.STREAM.LEADER.STEPDOWN.{stream}"), &order).ok();
                None
            });
        }
    }

    /// Moves the leadership of these streams away from the last node.
    pub(crate) fn lead_elsewhere(&self, streams: &[String]) {
        let port = self.nodes[0].port;
        let leader = format!("\"leader\":\"n{}\"", self.nodes.len() - 1);
        for name in streams {
            until("another node leads", READY_TIMEOUT, || {
                let info = request(port, &format!("$JS.API.STREAM.INFO.{name}"), "").ok()?;
                if !info.contains(&leader) {
                    return info.contains("\"leader\":").then_some(());
                }
                request(port, &format!("$JS.API.STREAM.LEADER.STEPDOWN.{name}"), "").ok();
                None
            });
        }
    }

    /// A node's client port.
    pub(crate) fn port(&self, node: usize) -> u16 {
        self.nodes[node].port
    }

    /// The nodes' addresses.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("nats://127.0.0.1:{}", node.port)).collect()
    }

    /// A running node's process id.
    pub(crate) fn pid(&self, node: usize) -> u32 {
        self.nodes[node].child.as_ref().expect("the node is running").id()
    }

    /// `kill -9` of one node.
    pub(crate) fn kill(&mut self, node: usize) {
        if let Some(mut child) = self.nodes[node].child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// SIGTERM of one node.
    pub(crate) fn stop(&mut self, node: usize) {
        if let Some(mut child) = self.nodes[node].child.take() {
            signal(child.id(), "TERM");
            child.wait().unwrap();
        }
    }

    /// Restarts a node that was killed or stopped; does not wait until it is ready.
    pub(crate) fn restart(&mut self, node: usize) {
        self.kill(node);
        self.run(node);
    }

    /// Waits until a new stream with a replica on every node is complete.
    pub(crate) fn wait_ready(&mut self) {
        assert!(self.becomes_ready(), "a node has ended:\n{}", self.log());
    }

    /// All nodes' logs.
    pub(crate) fn log(&self) -> String {
        let log = |n| std::fs::read_to_string(self.path(n).join("log")).unwrap_or_default();
        (0..self.nodes.len()).map(log).collect()
    }

    /// A node's JetStream store.
    pub(crate) fn store_dir(&self, node: usize) -> PathBuf {
        self.path(node).join("store")
    }

    fn path(&self, node: usize) -> PathBuf {
        self.dir.path().join(format!("n{node}"))
    }

    fn run(&mut self, n: usize) {
        let dir = self.path(n);
        std::fs::create_dir_all(&dir).unwrap();
        let mut routes: Vec<_> = self.nodes.iter().map(|node| node.route_port).collect();
        let mut gated = String::new();
        match (&self.between, routes.split_last_mut()) {
            (Between::Delay(delay), Some((last, others))) => {
                let is_last = n == others.len();
                if is_last {
                    // The others connect to it through the delay; it must not connect to them directly.
                    others.fill(NOWHERE);
                } else {
                    *last = delay.port();
                }
                let known_at = if is_last { delay.port() } else { NOWHERE };
                gated = format!(", advertise: \"127.0.0.1:{known_at}\"");
            }
            (Between::Relays(relays), _) => {
                routes = relays[n].iter().map(Relay::port).collect();
                routes[n] = NOWHERE;
                gated = format!(", advertise: \"127.0.0.1:{NOWHERE}\"");
            }
            _ => {}
        }
        let routes = routes.iter().map(|port| format!("\"nats://127.0.0.1:{port}\""));
        let text = format!(
            "server_name: n{n}\nlisten: \"127.0.0.1:{}\"\n\
             jetstream {{ store_dir: {:?}, max_memory_store: 64MB, max_file_store: 4GB }}\n\
             cluster {{ name: test, listen: \"127.0.0.1:{}\", routes: [{}]{gated} }}\n{}",
            self.nodes[n].port,
            self.store_dir(n),
            self.nodes[n].route_port,
            routes.collect::<Vec<_>>().join(", "),
            self.config,
        );
        std::fs::write(dir.join("nats.conf"), text).unwrap();
        let log = std::fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
        let child = Command::new(server_binary())
            .arg("-c")
            .arg(dir.join("nats.conf"))
            .env("GOMEMLIMIT", "128MiB")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.nodes[n].child = Some(child);
    }

    /// Meta leader, peers and a probe stream with a replica on every node; `false`: a node has ended.
    fn becomes_ready(&mut self) -> bool {
        let replicas = self.nodes.len();
        let probe = format!(
            "{{\"name\":\"PROBE\",\"subjects\":[\"probe\"],\"num_replicas\":{replicas},\"storage\":\"memory\"}}"
        );
        until("the cluster makes replicated streams", READY_TIMEOUT, || {
            let mut children = self.nodes.iter_mut().filter_map(|node| node.child.as_mut());
            if children.any(|child| child.try_wait().unwrap().is_some()) {
                return Some(false);
            }
            let port = self.nodes[0].port;
            let created = request(port, "$JS.API.STREAM.CREATE.PROBE", &probe).ok()?;
            if created.contains("\"error\"") {
                return None;
            }
            let deleted = request(port, "$JS.API.STREAM.DELETE.PROBE", "").ok()?;
            deleted.contains("\"success\":true").then_some(true)
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for n in 0..self.nodes.len() {
            self.kill(n);
        }
        if std::thread::panicking() {
            eprintln!("--- logs of the test's cluster\n{}", self.log());
        }
    }
}

#[test]
fn a_cluster_serves_without_one_node_and_takes_it_back() {
    let mut cluster = Cluster::start(3);
    assert_eq!(cluster.urls().len(), 3);
    let port = cluster.nodes[0].port;
    let stream = "{\"name\":\"S\",\"subjects\":[\"s\"],\"num_replicas\":3}";
    let created = request(port, "$JS.API.STREAM.CREATE.S", stream).unwrap();
    assert!(!created.contains("\"error\""), "{created}");
    assert!(cluster.store_dir(2).exists());
    let before = cluster.pid(2);
    cluster.kill(2);
    until("a write succeeds without the node", READY_TIMEOUT, || {
        request(port, "s", "x").ok()?.contains("\"seq\"").then_some(())
    });
    cluster.restart(2);
    cluster.wait_ready();
    assert_ne!(cluster.pid(2), before);
    cluster.stop(1);
}
