//! Finds the program that listens on a port, for the error about a port in use.

use crate::limits::PROC_FILE_MAX_BYTES;
use crate::runtime::{limited_read, port_listeners};

/// `nginx (pid 812)`, if this account may see the process.
pub(super) fn name(port: u16) -> Option<String> {
    let listener = port_listeners(port).ok()?.into_iter().next()?;
    let link = format!("socket:[{}]", listener.inode);
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
