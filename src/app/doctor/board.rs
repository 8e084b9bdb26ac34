//! The board and its system: supply voltage, word size, page size, journal, programs in memory.

use crate::supervisor::can_execute_memory;

use super::Check;
use super::system::System;

const VOLTAGE: &str = "board.voltage";
const USERLAND: &str = "system.userland";
const PAGES: &str = "system.pages";
const JOURNAL: &str = "system.journal";
const MEMFD: &str = "system.memfd";

/// The key of the page size in the auxiliary vector (getauxval(3)).
const AT_PAGESZ: u64 = 6;
/// The fifth byte of an ELF file: 1 stands for 32 bits (elf(5)).
const ELF_CLASS_32: [u8; 5] = *b"\x7fELF\x01";

pub(super) fn check(system: &System) -> Vec<Check> {
    let mut checks = vec![voltage(system), userland(system)];
    checks.extend(pages(system));
    checks.push(journal(system));
    checks.push(memory_execution(can_execute_memory().map_err(|error| error.to_string())));
    checks
}

/// The firmware's flags: bit 0 for now, bit 16 for since the start.
fn voltage(system: &System) -> Check {
    const NOW: u32 = 1;
    const SINCE_START: u32 = 1 << 16;
    let soc = "/sys/devices/platform/soc";
    let flags = system.names(soc).into_iter().find_map(|device| {
        let text = system.text(&format!("{soc}/{device}/get_throttled"))?;
        u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()
    });
    let hwmon = "/sys/class/hwmon";
    let is_low = system.names(hwmon).into_iter().find_map(|device| {
        let name = system.text(&format!("{hwmon}/{device}/name"))?;
        let is_low = ["in0_lcrit_alarm", "in1_lcrit_alarm"]
            .into_iter()
            .find_map(|file| system.text(&format!("{hwmon}/{device}/{file}")))?;
        (name == "rpi_volt").then(|| is_low != "0")
    });
    let (is_now, was) = match (flags, is_low) {
        (Some(flags), _) => (flags & NOW != 0, flags & SINCE_START != 0),
        (None, Some(is_low)) => (is_low, is_low),
        (None, None) => {
            return Check::skipped(
                VOLTAGE,
                "this machine reports no supply voltage, as a Raspberry Pi does",
            );
        }
    };
    let fix = "use the power supply and cable that the board's maker names, and a hub with its own supply for disks";
    if is_now {
        let text = "the supply voltage is too low: writes to the card or disk can be damaged";
        return Check::fail(VOLTAGE, text).fix(fix);
    }
    if was {
        let text = "the supply voltage has been too low since the machine started";
        return Check::warn(VOLTAGE, text).fix(fix);
    }
    Check::ok(VOLTAGE, "the supply voltage is sufficient")
}

/// This program has 64 bits, so the kernel has too.
fn userland(system: &System) -> Check {
    match system.head::<5>("/bin/sh") {
        Some(ELF_CLASS_32) => {
            let text = "the kernel has 64 bits, but the system's programs have 32: apt refuses the chatto package";
            Check::warn(USERLAND, text)
                .fix("install the 64-bit edition of the system, and restore a backup on it")
        }
        Some(_) => Check::ok(USERLAND, "the system's programs have 64 bits"),
        None => {
            Check::skipped(USERLAND, "there is no /bin/sh to tell whether the system has 64 bits")
        }
    }
}

fn pages(system: &System) -> Option<Check> {
    // Among the first entries; the vector has about twenty.
    let vector: [u8; 160] = system.head("/proc/self/auxv")?;
    let size = vector.chunks_exact(16).find_map(|pair| {
        let (key, value) = pair.split_first_chunk()?;
        let value = value.first_chunk()?;
        (u64::from_ne_bytes(*key) == AT_PAGESZ).then(|| u64::from_ne_bytes(*value))
    })?;
    Some(page_size(size))
}

fn page_size(bytes: u64) -> Check {
    if bytes <= 4096 {
        return Check::ok(PAGES, "memory pages have 4 KiB");
    }
    let text = format!(
        "memory pages have {} KiB, as with the default kernel of a Raspberry Pi 5: chatto works, and takes somewhat more memory",
        bytes / 1024
    );
    Check::note(PAGES, text)
}

fn journal(system: &System) -> Check {
    if !system.exists("/run/systemd/system") {
        return Check::skipped(JOURNAL, "systemd does not run here, so there is no journal");
    }
    if system.exists("/var/log/journal") {
        return Check::ok(JOURNAL, "the journal is kept over restarts of the machine");
    }
    let text = "the journal is in memory only: after a restart of the machine, the server's log is gone. That spares \
                an SD card";
    Check::note(JOURNAL, text)
        .fix("to keep it: mkdir -p /var/log/journal && systemctl restart systemd-journald")
}

fn memory_execution(result: Result<(), String>) -> Check {
    match result {
        Ok(()) => Check::ok(MEMFD, "nats-server can be executed from memory"),
        Err(error) => {
            let text = format!(
                "this system does not execute programs from memory ({error}): chatto keeps nats-server as a file in \
                 the data directory, which needs 17 MB there and must not be mounted noexec"
            );
            Check::note(MEMFD, text).fix("sysctl vm.memfd_noexec=0, or leave it as it is")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, write};

    use super::super::Verdict;
    use super::*;

    #[test]
    fn the_flags_of_the_firmware_distinguish_now_from_earlier() {
        let root = tempfile::tempdir().unwrap();
        let system = System::below(root.path());
        assert_eq!(voltage(&system).verdict, Verdict::Skipped);
        let firmware = root.path().join("sys/devices/platform/soc/soc:firmware");
        create_dir_all(&firmware).unwrap();
        for (flags, verdict) in [
            ("0\n", Verdict::Ok),
            ("50000\n", Verdict::Warn),
            ("0x50005\n", Verdict::Fail),
            ("2\n", Verdict::Ok),
        ] {
            write(firmware.join("get_throttled"), flags).unwrap();
            assert_eq!(voltage(&system).verdict, verdict, "{flags}");
        }
    }

    #[test]
    fn the_sensor_of_the_kernel_counts_where_the_firmware_says_nothing() {
        let root = tempfile::tempdir().unwrap();
        let system = System::below(root.path());
        for (device, name, is_low) in [("hwmon0", "cpu_thermal", "1"), ("hwmon1", "rpi_volt", "0")]
        {
            let device = root.path().join("sys/class/hwmon").join(device);
            create_dir_all(&device).unwrap();
            write(device.join("name"), name).unwrap();
            write(device.join("in0_lcrit_alarm"), is_low).unwrap();
        }
        assert_eq!(voltage(&system).verdict, Verdict::Ok);
        write(root.path().join("sys/class/hwmon/hwmon1/in0_lcrit_alarm"), "1\n").unwrap();
        assert_eq!(voltage(&system).verdict, Verdict::Fail);
    }

    #[test]
    fn programs_of_32_bits_are_recognised_by_the_shell() {
        let root = tempfile::tempdir().unwrap();
        let system = System::below(root.path());
        create_dir_all(root.path().join("bin")).unwrap();
        for (bytes, verdict) in [
            (&b"\x7fELF\x01\x01\x01"[..], Verdict::Warn),
            (b"\x7fELF\x02\x01\x01", Verdict::Ok),
            (b"\x7f", Verdict::Skipped),
        ] {
            write(root.path().join("bin/sh"), bytes).unwrap();
            assert_eq!(userland(&system).verdict, verdict, "{bytes:?}");
        }
        assert_eq!(userland(&System::of_machine()).verdict, Verdict::Ok);
    }

    #[test]
    fn the_page_size_comes_from_the_auxiliary_vector() {
        assert_eq!(page_size(16_384).verdict, Verdict::Note);
        assert!(page_size(16_384).text.contains("16 KiB"));
        assert!(pages(&System::of_machine()).is_some());
    }

    #[test]
    fn a_journal_in_memory_is_a_note_only_where_systemd_runs() {
        let root = tempfile::tempdir().unwrap();
        let system = System::below(root.path());
        assert_eq!(journal(&system).verdict, Verdict::Skipped);
        create_dir_all(root.path().join("run/systemd/system")).unwrap();
        assert_eq!(journal(&system).verdict, Verdict::Note);
        create_dir_all(root.path().join("var/log/journal")).unwrap();
        assert_eq!(journal(&system).verdict, Verdict::Ok);
    }

    #[test]
    fn without_execution_from_memory_a_file_is_used() {
        let denied = memory_execution(Err("Permission denied".to_owned()));
        assert_eq!(denied.verdict, Verdict::Note);
        assert!(denied.text.contains("Permission denied"));
    }
}
