//! What nobody sends by accident: bytes that try to crash the server, to bloat it, or to be taken for
//! something else.

mod bodies;
mod ending;
mod framing;
mod heads;
mod patience;
mod socket;

use super::support::{Edge, head};
use chatto::http::Config;

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn edge() -> Edge {
    Edge::start(Config::default())
}

/// Sends the bytes and returns everything that is received until the end of the connection.
fn exchange(edge: &Edge, bytes: &[u8]) -> Vec<u8> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(edge.address).unwrap();
    stream.set_read_timeout(Some(super::support::PATIENCE)).unwrap();
    // The server may have closed before the end.
    stream.write_all(bytes).ok();
    let mut response = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return response,
            Ok(n) => response.extend_from_slice(&chunk[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return response,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&response)),
        }
    }
}

/// The statuses of the responses on a connection.
fn statuses(received: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(received);
    let heads = text.split("HTTP/1.").skip(1);
    heads.filter_map(|head| head.get(2..5)?.parse().ok()).collect()
}

/// How much more memory this process held at its worst during `work`, in bytes. Each test is a
/// process of its own, so that it is the server's and the client's of this test.
fn grown(work: impl FnOnce()) -> u64 {
    // Resets the peak (proc(5), clear_refs).
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak();
    work();
    peak().saturating_sub(before)
}

fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

const MIB: u64 = 1 << 20;
