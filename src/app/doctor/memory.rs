//! Memory: both processes against the budget, what is available, swap.

use crate::limits::{
    DOCTOR_MEMORY_AVAILABLE_MIN_BYTES, DOCTOR_SMALL_BOARD_BUDGET_BYTES, DOCTOR_SMALL_BOARD_BYTES,
};
use crate::observe::binary_size;
use crate::supervisor::memory_bytes;

use super::disk::children;
use super::system::System;
use super::{Check, Facts};

const SERVER: &str = "memory.server";
const AVAILABLE: &str = "memory.available";
const SWAP: &str = "memory.swap";
const MEMINFO: &str = "/proc/meminfo";

pub(super) fn of_the_server(facts: &Facts<'_>) -> Vec<Check> {
    let Some(pid) = facts.running.pid() else {
        return Vec::new();
    };
    let used = used_bytes(facts.system, pid).map(|own| {
        let children = children(facts.system, pid).into_iter();
        own + children.filter_map(|pid| used_bytes(facts.system, pid)).sum::<u64>()
    });
    vec![match used {
        Some(used) => against_budget(used, memory_bytes()),
        None => facts.account.may_not(SERVER, "the memory of the server"),
    }]
}

/// Memory that belongs to a process alone and cannot be dropped: what it allocated, and nats-server in memory.
fn used_bytes(system: &System, pid: i64) -> Option<u64> {
    let file = format!("/proc/{pid}/status");
    Some(system.memory(&file, "RssAnon")? + system.memory(&file, "RssShmem").unwrap_or_default())
}

fn against_budget(used: u64, memory: u64) -> Check {
    let budget = match memory {
        ..=DOCTOR_SMALL_BOARD_BYTES => DOCTOR_SMALL_BOARD_BUDGET_BYTES,
        _ => memory / 4,
    };
    let text = format!(
        "the server and its nats-server take {} of the {} that they should at most take on a machine with {}",
        binary_size(used),
        binary_size(budget),
        binary_size(memory)
    );
    if used > budget {
        Check::warn(SERVER, text).fix("systemctl restart chatto; if it grows again, lower nats.embedded.memory_limit and report it")
    } else {
        Check::ok(SERVER, text)
    }
}

pub(super) fn of_the_machine(system: &System) -> Vec<Check> {
    vec![available(system), swap(system)]
}

fn available(system: &System) -> Check {
    let Some(bytes) = system.memory(MEMINFO, "MemAvailable") else {
        return Check::skipped(AVAILABLE, "the available memory is hidden here");
    };
    let text = format!("{} of memory are available", binary_size(bytes));
    if bytes < DOCTOR_MEMORY_AVAILABLE_MIN_BYTES {
        let text = format!("{text}, too little for a backup beside the server");
        return Check::warn(AVAILABLE, text).fix(
            "stop other programs (systemd-cgtop shows them), or set up zram (docs/raspberry-pi.md)",
        );
    }
    Check::ok(AVAILABLE, text)
}

fn swap(system: &System) -> Check {
    let Some(list) = system.text("/proc/swaps") else {
        return Check::skipped(SWAP, "the list of swap areas is hidden here");
    };
    let areas: Vec<&str> =
        list.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    let on_disk: Vec<&str> = areas.iter().copied().filter(|area| !area.contains("zram")).collect();
    let is_small =
        system.memory(MEMINFO, "MemTotal").is_some_and(|total| total <= DOCTOR_SMALL_BOARD_BYTES);
    let on_card: Vec<&str> =
        on_disk.iter().copied().filter(|area| is_on_card(system, area)).collect();
    if let Some(area) = on_card.first() {
        let text =
            format!("swap is on an SD card ({area}), which wears out and makes everything wait");
        return Check::warn(SWAP, text).fix("set up zram instead (docs/raspberry-pi.md), then swapoff -a and remove the swap file or partition from /etc/fstab (dphys-swapfile uninstall)");
    }
    if areas.is_empty() {
        let text = "there is no swap";
        return if is_small {
            let text = format!(
                "{text}: when memory runs out on this small board, the kernel ends processes"
            );
            Check::warn(SWAP, text).fix("set up zram (docs/raspberry-pi.md)")
        } else {
            Check::ok(SWAP, text)
        };
    }
    let kind = if on_disk.is_empty() { "compressed memory (zram)" } else { "a disk" };
    Check::ok(SWAP, format!("there is swap, in {kind}"))
}

/// Whether a swap area is a partition of an SD card. A file is if the file system of `/` is on one.
fn is_on_card(system: &System, area: &str) -> bool {
    if area.starts_with("/dev/") {
        return area.starts_with("/dev/mmcblk");
    }
    let mounts = system.text("/proc/mounts").unwrap_or_default();
    mounts.lines().any(|line| {
        let mut words = line.split(' ');
        words.next().is_some_and(|source| source.starts_with("/dev/mmcblk"))
            && words.next() == Some("/")
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, write};

    use super::super::Verdict;
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_budget_follows_the_memory_of_the_board() {
        for (used, memory, verdict) in [
            (150, 512, Verdict::Ok),
            (151, 512, Verdict::Warn),
            (256, 1024, Verdict::Ok),
            (257, 1024, Verdict::Warn),
        ] {
            assert_eq!(
                against_budget(used * MIB, memory * MIB).verdict,
                verdict,
                "{used} {memory}"
            );
        }
        let own = used_bytes(&System::of_machine(), i64::from(std::process::id()));
        assert!(own.is_some_and(|bytes| bytes > 0));
    }

    fn swap_of(memory_kb: u64, swaps: &str, mounts: &str) -> Verdict {
        let root = tempfile::tempdir().unwrap();
        let proc = root.path().join("proc");
        create_dir_all(&proc).unwrap();
        write(proc.join("meminfo"), format!("MemTotal: {memory_kb} kB\n")).unwrap();
        write(proc.join("swaps"), format!("Filename Type Size Used Priority\n{swaps}")).unwrap();
        write(proc.join("mounts"), mounts).unwrap();
        swap(&System::below(root.path())).verdict
    }

    #[test]
    fn swap_belongs_into_memory_and_not_on_a_card() {
        let (small, large) = (450_000, 4_000_000);
        let card = "/dev/mmcblk0p2 / ext4 rw 0 0\n";
        assert_eq!(swap_of(small, "", ""), Verdict::Warn);
        assert_eq!(swap_of(large, "", ""), Verdict::Ok);
        assert_eq!(swap_of(small, "/dev/zram0 partition 1 0 100\n", card), Verdict::Ok);
        assert_eq!(swap_of(large, "/dev/mmcblk0p3 partition 1 0 100\n", ""), Verdict::Warn);
        assert_eq!(swap_of(large, "/var/swap file 1 0 100\n", card), Verdict::Warn);
        assert_eq!(
            swap_of(large, "/var/swap file 1 0 100\n", "/dev/sda1 / ext4 rw\n"),
            Verdict::Ok
        );
    }

    #[test]
    fn little_available_memory_is_a_warning() {
        let root = tempfile::tempdir().unwrap();
        let system = System::below(root.path());
        assert_eq!(available(&system).verdict, Verdict::Skipped);
        create_dir_all(root.path().join("proc")).unwrap();
        write(root.path().join("proc/meminfo"), "MemAvailable: 65535 kB\n").unwrap();
        assert_eq!(available(&system).verdict, Verdict::Warn);
        write(root.path().join("proc/meminfo"), "MemAvailable: 65536 kB\n").unwrap();
        assert_eq!(available(&system).verdict, Verdict::Ok);
    }
}
