//! Numbers that the kernel tells of a process.

/// The number behind `name` in `/proc/PID/FILE`; 0 when there is none. `status` tells memory in KiB
/// (`VmRSS:`), `io` bytes read from files and connections (`rchar:`) and bytes on their way to the disk
/// (`write_bytes:`).
pub(crate) fn number(pid: u32, file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
