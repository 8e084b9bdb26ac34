//! Numbers that the kernel reports about a process.

/// The number after `name` in `/proc/PID/FILE`, or 0. `status` has memory in KiB (`VmRSS:`); `io` has bytes read
/// from files and connections (`rchar:`) and bytes that go to the disk (`write_bytes:`).
pub(crate) fn number(pid: u32, file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
