//! What the kernel says about a process: memory, processor time, context switches.

use std::fs;

use crate::proc::number;

/// The unit of processor time in `/proc`: a hundredth of a second on every Linux.
const TICK_US: u64 = 10_000;

/// Resident memory, in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// All resident pages, those of files and of the executable included.
    pub(crate) resident: u64,
    /// Pages that no file backs.
    pub(crate) own: u64,
}

/// What a process has used since its start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    /// Processor time, in microseconds (the kernel counts in ticks of 10 ms).
    pub(crate) cpu_us: u64,
    /// Context switches of all its threads.
    pub(crate) switches: u64,
    /// Bytes on their way to the disk.
    pub(crate) written: u64,
}

/// The memory of a process now.
pub(crate) fn memory(pid: u32) -> Memory {
    let field = |name| number(pid, "status", name);
    Memory { resident: field("VmRSS:"), own: field("RssAnon:") + field("RssShmem:") }
}

/// What a process has used so far.
pub(crate) fn used(pid: u32) -> Used {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in brackets may hold spaces; user and system time are fields 14 and 15 of the line.
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let switches = tasks
        .map(|task| {
            let status = format!("task/{}/status", task.file_name().to_string_lossy());
            number(pid, &status, "voluntary_ctxt_switches:")
                + number(pid, &status, "nonvoluntary_ctxt_switches:")
        })
        .sum();
    Used { cpu_us: ticks * TICK_US, switches, written: number(pid, "io", "write_bytes:") }
}

/// The processes whose parent this one is.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    tasks
        .flat_map(|task| {
            let list = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
        })
        .collect()
}
