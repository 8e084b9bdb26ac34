//! Numbers for people; those of bytes are rounded down.

/// In binary units, as limits and memory are counted.
#[must_use]
pub fn binary_size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    const TEN_GIB: u64 = 10 << 30;
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..MIB => format!("{} KiB", bytes / 1024),
        MIB..TEN_GIB => format!("{} MiB", bytes / MIB),
        TEN_GIB.. => format!("{} GiB", bytes / MIB / 1024),
    }
}

/// In decimal units, as the makers of sticks count them.
#[must_use]
pub fn decimal_size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        1_000_000..1_000_000_000 => format!("{} MB", bytes / 1_000_000),
        1_000_000_000.. => format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10),
    }
}

/// A count with its noun: `1 file`, `2 files`.
#[must_use]
pub fn counted(count: impl TryInto<u64>, (one, many): (&str, &str)) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_unit_that_fits() {
        for (bytes, binary, decimal) in [
            (0, "0 B", "0 B"),
            (1_023, "1023 B", "1 kB"),
            (7, "7 B", "7 B"),
            (2048, "2 KiB", "2 kB"),
            (512 << 20, "512 MiB", "536 MB"),
            (3 << 30, "3072 MiB", "3.2 GB"),
            (64 << 30, "64 GiB", "68.7 GB"),
            (512_000_000, "488 MiB", "512 MB"),
            (1_000_000_000, "953 MiB", "1.0 GB"),
            (31_914_983_424, "29 GiB", "31.9 GB"),
        ] {
            assert_eq!(
                (binary_size(bytes), decimal_size(bytes)),
                (binary.to_owned(), decimal.to_owned())
            );
        }
    }
}
