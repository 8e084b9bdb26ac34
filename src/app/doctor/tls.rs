//! The end of certificates.

use crate::limits::DOCTOR_CERTIFICATE_SOON;
use crate::observe::rfc3339;

use super::store::span;
use super::{Check, Facts};

const TLS: &str = "tls.expiry";

/// The certificate of `webserver.tls`; the one of a proxy is looked at with `--online`.
pub(super) fn check(facts: &Facts<'_>) -> Option<Check> {
    let files = facts.settings.webserver.tls.as_ref()?;
    let shown = files.cert_file.display();
    Some(match files.ends_ms() {
        Some(ends_ms) => {
            assess(&format!("the certificate in {shown}"), ends_ms, facts.clock.unix_ms())
        }
        None => facts.account.may_not(TLS, &format!("reading the certificate in {shown}")),
    })
}

pub(super) fn assess(what: &str, ends_ms: i64, now_ms: i64) -> Check {
    let ends = rfc3339(ends_ms);
    let day = ends.split('T').next().unwrap_or_default();
    let fix = "renew it (certbot renew, or as it was made); chatto loads a new file by itself";
    let left = u64::try_from(ends_ms.saturating_sub(now_ms) / 1000).unwrap_or_default();
    if ends_ms <= now_ms {
        Check::fail(TLS, format!("{what} ended on {day}: browsers refuse the connection")).fix(fix)
    } else if left < DOCTOR_CERTIFICATE_SOON.as_secs() {
        Check::fail(TLS, format!("{what} ends in {}, on {day}", span(left))).fix(fix)
    } else {
        Check::ok(TLS, format!("{what} is valid until {day}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_certificate_is_to_be_renewed_two_weeks_before_its_end() {
        const DAY_MS: i64 = 86_400_000;
        let now = 20_000 * DAY_MS;
        for (days, verdict) in [
            (-1, Verdict::Fail),
            (0, Verdict::Fail),
            (13, Verdict::Fail),
            (14, Verdict::Ok),
            (90, Verdict::Ok),
        ] {
            assert_eq!(assess("it", now + days * DAY_MS, now).verdict, verdict, "{days}");
        }
        assert!(assess("it", now - DAY_MS, now).text.contains("ended on 2024-10-03"));
    }
}
