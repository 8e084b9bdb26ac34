//! Wall-clock time as text.

/// `2026-11-21T06:00:00.000Z` for milliseconds since 1970; earlier times are shown as 1970.
#[must_use]
pub fn rfc3339(unix_ms: i64) -> String {
    let ms = unix_ms.max(0);
    let (days, rest) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
    let (second, ms) = (rest / 1000 % 60, rest % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// The milliseconds since 1970 of such a text, with any number of digits and any offset; `None`: it is no time.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let time: prost_types::Timestamp = text.parse().ok()?;
    Some(time.seconds.checked_mul(1000)?.saturating_add(i64::from(time.nanos / 1_000_000)))
}

/// The same to the second, as part of a file's name: `2026-11-21T06-00-00Z`.
#[must_use]
pub fn file_time(unix_ms: i64) -> String {
    let time = rfc3339(unix_ms);
    let (second, _) = time.split_once('.').unwrap_or((&time, ""));
    format!("{}Z", second.replace(':', "-"))
}

/// Year, month and day of a day counted from 1970-01-01 (H. Hinnant, `chrono`-compatible low-level date
/// algorithms, `civil_from_days`).
#[must_use]
pub fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_240_799_999, "2026-11-21T05:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (-5, "1970-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
            assert_eq!(parse_rfc3339(text), Some(ms.max(0)));
        }
        assert_eq!(parse_rfc3339("1970-01-01T01:00:00.123456789+01:00"), Some(123));
        assert_eq!(parse_rfc3339("yesterday"), None);
        assert_eq!(file_time(1_795_240_799_999), "2026-11-21T05-59-59Z");
    }
}
