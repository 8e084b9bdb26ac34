//! Ports for servers that tests start.

use std::fs;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// A port that is free now. It is below the range that the kernel uses for `bind` to port 0 and for outgoing
/// connections, and test processes that run at the same time begin at different ports. So nobody takes it
/// before it is bound.
pub(crate) fn free_port() -> u16 {
    /// The number of ports used below the kernel's range, and how many of them one process needs.
    const PORTS: u32 = 16_384;
    const OWN: u32 = 32;
    static GIVEN: AtomicU32 = AtomicU32::new(0);

    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let lowest: u32 = range.split_whitespace().next().unwrap().parse().unwrap();
    // Tests that run at the same time have process ids close to each other.
    let first = std::process::id().wrapping_mul(OWN);
    for _ in 0..PORTS {
        let given = GIVEN.fetch_add(1, Ordering::Relaxed);
        let port = lowest.checked_sub(1 + first.wrapping_add(given) % PORTS).expect("room below");
        let port = u16::try_from(port).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port below {lowest}");
}
