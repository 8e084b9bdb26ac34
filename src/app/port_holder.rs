//! Who listens on a port, for the message about a busy one.

use std::path::Path;

use crate::limits::PROC_FILE_MAX_BYTES;
use crate::runtime::limited_read;

/// `nginx (pid 812)`, when the process can be seen from here.
pub(super) fn name(port: u16) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let text = limited_read(Path::new(table), PROC_FILE_MAX_BYTES).ok()?;
        listener_inode(&String::from_utf8_lossy(&text), port)
    })?;
    let link = format!("socket:[{inode}]");
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let holds = files
            .flatten()
            .filter_map(|file| std::fs::read_link(file.path()).ok())
            .any(|target| target.as_os_str() == link.as_str());
        if holds {
            let name = limited_read(&process.path().join("comm"), PROC_FILE_MAX_BYTES).ok()?;
            return Some(format!("{} (pid {pid})", String::from_utf8_lossy(&name).trim()));
        }
    }
    None
}

/// The inode of the listening socket (state 0A) of a port, from proc(5)'s table.
fn listener_inode(table: &str, port: u16) -> Option<String> {
    let suffix = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let listens = words.get(1)?.ends_with(&suffix) && *words.get(3)? == "0A";
        listens.then(|| words.get(9).map(|inode| (*inode).to_owned())).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_port_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = name(listener.local_addr().unwrap().port()).unwrap();
        assert!(holder.ends_with(&format!("(pid {})", std::process::id())), "{holder}");
    }
}
