//! Values with their own JSON form: times, durations, field masks, bytes, special numbers.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost_types::{Duration, FieldMask, Timestamp};

/// The years 1 to 9999, which is the range of the JSON form.
const TIMESTAMP_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
/// About 10,000 years.
const DURATION_SECONDS: std::ops::RangeInclusive<i64> = -315_576_000_000..=315_576_000_000;

const BASE64_CONFIG: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, BASE64_CONFIG);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, BASE64_CONFIG);

/// Bytes from base64; the URL-safe alphabet and missing padding are accepted too.
pub(super) fn bytes_of(text: &str) -> Option<Vec<u8>> {
    let is_url = text.bytes().any(|byte| matches!(byte, b'-' | b'_'));
    if is_url { BASE64_URL.decode(text) } else { BASE64.decode(text) }.ok()
}

pub(super) fn base64_of(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// A whole number written as `5.0` or `5e2`.
pub(super) fn integer_of(value: f64) -> Option<i128> {
    let is_whole = value.is_finite() && value.fract() == 0.0 && value.abs() < 1e19;
    #[expect(clippy::cast_possible_truncation, reason = "whole and far inside the range")]
    is_whole.then_some(value as i128)
}

pub(super) fn double_of(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ if text
            .bytes()
            .any(|byte| byte.is_ascii_alphabetic() && !matches!(byte, b'e' | b'E')) =>
        {
            None
        }
        _ => text.parse().ok(),
    }
}

/// prost-types accepts more than RFC 3339 (a date alone, for example), so the format is checked here.
pub(super) fn timestamp_of(text: &str) -> Option<Timestamp> {
    let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    let bytes = text.as_bytes();
    let (date, rest) = bytes.split_at_checked(10)?;
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = date else { return None };
    let (time, rest) = rest.split_at_checked(9)?;
    let [b'T' | b't', h0, h1, b':', n0, n1, b':', s0, s1] = time else { return None };
    let all = [y0, y1, y2, y3, m0, m1, d0, d1, h0, h1, n0, n1, s0, s1];
    if !all.into_iter().all(u8::is_ascii_digit) {
        return None;
    }
    let zone = match rest.split_first()? {
        (b'.', fraction) => {
            let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if !(1..=9).contains(&length) {
                return None;
            }
            fraction.get(length..)?
        }
        _ => rest,
    };
    match zone {
        b"Z" | b"z" => {}
        [b'+' | b'-', h0, h1, b':', m0, m1] if digits(&[*h0, *h1, *m0, *m1]) => {}
        _ => return None,
    }
    let time: Timestamp = text.to_ascii_uppercase().parse().ok()?;
    TIMESTAMP_SECONDS.contains(&time.seconds).then_some(time)
}

/// `None` outside the years 1 to 9999.
pub(super) fn text_of_timestamp(time: &Timestamp) -> Option<String> {
    let is_in_range =
        TIMESTAMP_SECONDS.contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos);
    is_in_range.then(|| time.to_string())
}

pub(super) fn duration_of(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s')?;
    let unsigned = number.strip_prefix('-').unwrap_or(number);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let is_number = |part: &str, max: usize| {
        (1..=max).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !is_number(whole, 12) || !is_number(fraction, 9) {
        return None;
    }
    let sign = if number.starts_with('-') { -1 } else { 1 };
    let nanos: i32 = format!("{fraction:0<9}").parse().ok()?;
    let duration =
        Duration { seconds: whole.parse::<i64>().ok()? * sign, nanos: nanos * sign as i32 };
    DURATION_SECONDS.contains(&duration.seconds).then_some(duration)
}

/// `None` when it is longer than about 10,000 years, or its parts have different signs.
pub(super) fn text_of_duration(duration: &Duration) -> Option<String> {
    let Duration { seconds, nanos } = *duration;
    let is_in_range = DURATION_SECONDS.contains(&seconds)
        && (-999_999_999..=999_999_999).contains(&nanos)
        && (seconds == 0 || nanos == 0 || (seconds < 0) == (nanos < 0));
    is_in_range.then(|| duration.to_string())
}

/// Paths in lowerCamelCase or as in the `.proto` file. Whether a path exists is not checked here.
pub(super) fn mask_of(text: &str) -> FieldMask {
    let mut paths = Vec::new();
    for path in text.split(',').filter(|path| !path.is_empty()) {
        let mut name = String::with_capacity(path.len().saturating_add(4));
        for character in path.chars() {
            if character.is_ascii_uppercase() {
                name.push('_');
            }
            name.push(character.to_ascii_lowercase());
        }
        paths.push(name);
    }
    FieldMask { paths }
}

/// `direct_messages` becomes `directMessages`.
pub(super) fn text_of_mask(mask: &FieldMask) -> String {
    let mut text = String::new();
    for path in &mask.paths {
        if !text.is_empty() {
            text.push(',');
        }
        let mut starts_word = false;
        for character in path.chars() {
            if starts_word {
                text.push(character.to_ascii_uppercase());
            } else if character != '_' {
                text.push(character);
            }
            starts_word = !starts_word && character == '_';
        }
    }
    text
}
