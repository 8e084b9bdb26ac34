//! The few ELF fields that decide whether a file is a static 64-bit Linux program for a machine
//! (System V gABI, chapters 4 and 5; processor numbers from its registry).
//!
//! Used by the build script for the server it embeds; it knows nothing of nats-server.

/// A machine that we build for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Machine {
    X86_64,
    Aarch64,
}

impl Machine {
    /// Go's name of the machine.
    pub(crate) fn go_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    fn elf_number(self) -> u64 {
        match self {
            Self::X86_64 => 62,
            Self::Aarch64 => 183,
        }
    }
}

const PT_DYNAMIC: u64 = 2;
const PT_INTERP: u64 = 3;
const DT_NEEDED: u64 = 1;
const DYNAMIC_ENTRY_BYTES: u64 = 16;

/// Checks that `file` is a static 64-bit little-endian program for `machine`; the error continues a
/// sentence that begins with the file's name.
pub(crate) fn check_static(file: &[u8], machine: Machine) -> Result<(), String> {
    if file.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err("is not a 64-bit little-endian ELF program".to_owned());
    }
    let number = field(file, 18, 2)?;
    if number != machine.elf_number() {
        let needed = machine.go_name();
        return Err(format!("is for ELF machine {number}, not for linux/{needed}"));
    }
    let (table, size, count) = (field(file, 32, 8)?, field(file, 54, 2)?, field(file, 56, 2)?);
    for n in 0..count {
        let header = table.saturating_add(n.saturating_mul(size));
        match field(file, header, 4)? {
            PT_INTERP => return Err("is not static: it asks for a dynamic linker".to_owned()),
            PT_DYNAMIC => {
                let at = field(file, header.saturating_add(8), 8)?;
                let bytes = field(file, header.saturating_add(32), 8)?;
                for entry in 0..bytes / DYNAMIC_ENTRY_BYTES {
                    let tag = field(file, at.saturating_add(entry * DYNAMIC_ENTRY_BYTES), 8)?;
                    if tag == DT_NEEDED {
                        return Err("is not static: it needs a shared library".to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// A little-endian number of `bytes` bytes at `at`.
fn field(file: &[u8], at: u64, bytes: usize) -> Result<u64, String> {
    usize::try_from(at)
        .ok()
        .and_then(|at| file.get(at..at.checked_add(bytes)?))
        .map(|field| field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
        .ok_or_else(|| "is a damaged ELF program".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program header table with one entry at byte 64.
    fn program(machine: u8, segment: u8, dynamic_tag: u8) -> Vec<u8> {
        let mut file = vec![0; 136];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (file[18], file[32], file[54], file[56]) = (machine, 64, 56, 1);
        (file[64], file[72], file[96]) = (segment, 120, 16);
        file[120] = dynamic_tag;
        file
    }

    #[test]
    fn static_programs_of_the_machine_pass_and_others_are_named() {
        for (file, machine, why) in [
            (program(62, 1, 0), Machine::X86_64, None),
            (program(183, 2, 5), Machine::Aarch64, None),
            (program(183, 1, 0), Machine::X86_64, Some("not for linux/amd64")),
            (program(62, 3, 0), Machine::X86_64, Some("dynamic linker")),
            (program(62, 2, 1), Machine::X86_64, Some("shared library")),
            (program(62, 1, 0)[..80].to_vec(), Machine::X86_64, None),
            (program(62, 2, 0)[..80].to_vec(), Machine::X86_64, Some("damaged")),
            (program(62, 1, 0)[..40].to_vec(), Machine::X86_64, Some("damaged")),
            (b"#!/bin/sh\n".to_vec(), Machine::X86_64, Some("not a 64-bit")),
        ] {
            let checked = check_static(&file, machine);
            match why {
                None => assert_eq!(checked, Ok(())),
                Some(why) => assert!(
                    checked.as_ref().is_err_and(|said| said.contains(why)),
                    "{why}: {checked:?}"
                ),
            }
        }
    }
}
