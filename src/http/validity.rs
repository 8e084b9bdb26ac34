//! Until when a certificate is valid: the end of `validity` in RFC 5280, section 4.1, read without the rest.

/// The values of DER (X.690) that lead there.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of a certificate's validity in milliseconds since 1970; `None`: these bytes are no certificate.
pub(super) fn not_after_ms(certificate: &[u8]) -> Option<i64> {
    let (certificate, _) = value(certificate, SEQUENCE)?;
    let (mut fields, _) = value(certificate, SEQUENCE)?;
    if let Some((_, rest)) = value(fields, VERSION) {
        fields = rest;
    }
    // Serial number, algorithm of the signature, issuer.
    for _ in 0..3 {
        (_, _, fields) = any(fields)?;
    }
    let (validity, _) = value(fields, SEQUENCE)?;
    let (_, _, after) = any(validity)?;
    let (kind, text, _) = any(after)?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match kind {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: u32 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let mut parts = [0_u32; 5];
    let mut rest = rest;
    for part in &mut parts {
        let (digits, others) = rest.split_at_checked(2)?;
        (*part, rest) = (digits.parse().ok()?, others);
    }
    let [month, day, hour, minute, second] = parts;
    let time = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
    crate::observe::parse_rfc3339(&time)
}

/// The content of the value at the beginning if it has this tag, and what follows it.
fn value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = any(bytes)?;
    (found == tag).then_some((content, rest))
}

/// Tag and content of the value at the beginning, and what follows it.
fn any(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, bytes) = bytes.split_first()?;
    let (first, bytes) = bytes.split_first()?;
    let (length, bytes) = match first {
        0..=0x7f => (usize::from(*first), bytes),
        // 0x80 has no length: DER does not allow it.
        0x81..=0x84 => {
            let (digits, bytes) = bytes.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), bytes)
        }
        _ => return None,
    };
    let (content, rest) = bytes.split_at_checked(length)?;
    Some((*tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(year: i32) -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut about = rcgen::CertificateParams::new(vec!["chat.example".to_owned()]).unwrap();
        about.not_before = rcgen::date_time_ymd(2024, 1, 2);
        about.not_after = rcgen::date_time_ymd(year, 3, 4);
        about.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_is_read_in_both_forms_of_a_time() {
        for (year, expected) in [(2027, "2027-03-04T00:00:00Z"), (2061, "2061-03-04T00:00:00Z")] {
            let expected = crate::observe::parse_rfc3339(expected);
            assert_eq!(not_after_ms(&certificate(year)), expected, "{year}");
        }
    }

    #[test]
    fn other_bytes_and_every_prefix_are_no_certificate() {
        let whole = certificate(2027);
        for length in 0..whole.len() {
            assert_eq!(not_after_ms(&whole[..length]), None, "{length}");
        }
        assert_eq!(not_after_ms(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(not_after_ms(b"-----BEGIN CERTIFICATE-----"), None);
    }
}
