//! Finds the sockets that listen on a port of this machine, from proc(5).

use std::io;
use std::path::Path;

use super::limited_read;
use crate::limits::PROC_FILE_MAX_BYTES;

/// A listening socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortListener {
    /// The socket's inode, as `/proc/PID/fd` names it.
    pub inode: String,
    /// The account it belongs to.
    pub uid: u32,
}

/// The sockets of this machine that listen on a TCP port, IPv4 and IPv6.
///
/// # Errors
/// The system's error when the table cannot be read.
pub fn port_listeners(port: u16) -> io::Result<Vec<PortListener>> {
    let mut found = Vec::new();
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        match limited_read(Path::new(table), PROC_FILE_MAX_BYTES) {
            Ok(text) => found.extend(listening(&String::from_utf8_lossy(&text), port)),
            // A system without IPv6 has no such table.
            Err(error) if error.kind() == io::ErrorKind::NotFound && table.ends_with('6') => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The rows of a table whose local port is this one and whose state is "listen" (0A).
fn listening(table: &str, port: u16) -> impl Iterator<Item = PortListener> {
    let suffix = format!(":{port:04X}");
    table.lines().skip(1).filter_map(move |line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let listens = words.get(1)?.ends_with(&suffix) && *words.get(3)? == "0A";
        let (uid, inode) = (words.get(7)?.parse().ok()?, (*words.get(9)?).to_owned());
        listens.then_some(PortListener { inode, uid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_our_own_is_found_with_its_account() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = port_listeners(port).unwrap();
        let own = rustix::process::geteuid().as_raw();
        assert!(found.iter().any(|one| one.uid == own && one.inode != "0"), "{found:?}");
        drop(listener);
        assert!(port_listeners(port).unwrap().is_empty());
    }
}
