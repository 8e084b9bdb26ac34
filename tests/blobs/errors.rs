//! Every cause of an error, from the bodies that services send and from real failures of the connection.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use chatto::blobs::s3::{Config, S3Error};
use chatto::crypto::Secret;

use crate::support::certificates::Authority;
use crate::support::s3::proxy::{Fate, FaultyS3, Reply};
use crate::support::s3::{Kind, OWNER, S3Server, config, s3};

/// The error of a write to a service that refuses everything so.
fn refused(reply: &Reply) -> S3Error {
    let reply = reply.clone();
    let proxy = FaultyS3::start(1, move |_| Fate::Refuse(reply.clone()));
    smol::block_on(s3(config(proxy.port())).put("a", Bytes::new())).unwrap_err()
}

/// Checks variant and text.
#[track_caller]
fn assert_cause(reply: &Reply, variant: &str, advice: &str) {
    let error = refused(reply);
    let body = String::from_utf8_lossy(&reply.body);
    assert!(format!("{error:?}").starts_with(variant), "{body}: {error:?}");
    assert!(error.to_string().contains(advice), "{variant}: {error}");
    assert!(!format!("{error} {error:?}").contains(OWNER.1), "{error:?}");
}

#[test]
fn refusals_are_told_apart_by_what_services_send() {
    let error = Reply::error;
    let region = "<Region>eu-central-1</Region>";
    for (reply, variant, advice) in [
        (error(403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.", "<AWSAccessKeyId>x</AWSAccessKeyId>"), "AccessKey", "access_key_id"),
        (error(403, "InvalidSecurity", "The provided security credentials are not valid.", ""), "AccessKey", "access_key_id"),
        (error(404, "XAdminUserNotFound", "No user", ""), "AccessKey", "access_key_id"),
        (error(403, "AccessDenied", "Forbidden: No such key: GK1234", ""), "AccessKey", "access_key_id"),
        (error(400, "InvalidArgument", "Credential access key has length 9, should be 32", ""), "AccessKey", "access_key_id"),
        (error(401, "Unauthorized", "Unauthorized", ""), "AccessKey", "access_key_id"),
        (error(403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided.", "<StringToSign>owner-secret-key</StringToSign>"), "Secret", "secret_access_key"),
        (error(403, "SignatureDoesNotMatch", "Access denied.", ""), "Secret", "secret_access_key"),
        (error(403, "AccessDenied", "Forbidden: Invalid signature", ""), "Secret", "secret_access_key"),
        (error(400, "ExpiredToken", "The provided token has expired.", ""), "SessionToken", "session_token"),
        (error(400, "AuthorizationHeaderMalformed", "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-central-1'", region), "Region ", "region = \"eu-central-1\""),
        (error(301, "PermanentRedirect", "The bucket you are attempting to access must be addressed using the specified endpoint.", "<Endpoint>files.s3.eu-central-1.amazonaws.com</Endpoint>").with("x-amz-bucket-region", "eu-central-1"), "Region ", "region = \"eu-central-1\""),
        (error(400, "AuthorizationHeaderMalformed", "Authorization header malformed, unexpected scope: 20251215/us-east-1/s3/aws4_request", ""), "RegionUnknown", "garage"),
        (error(400, "InvalidRegionName", "The region name 'mars' is not valid.", ""), "RegionUnknown", "core.assets.s3.region"),
        (error(400, "IllegalLocationConstraintException", "The unspecified location constraint is incompatible for the region specific endpoint this request was sent to.", ""), "RegionUnknown", "core.assets.s3.region"),
        (error(301, "PermanentRedirect", "elsewhere", "<Endpoint>files.other.example</Endpoint>"), "Redirected", "files.other.example"),
        (Reply::text(302, "").with("Location", "https://login.example/?token=secret"), "Redirected", "https://login.example/;"),
        (error(403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.", "<MaxAllowedSkewMilliseconds>900000</MaxAllowedSkewMilliseconds>"), "Clock", "NTP"),
        (error(403, "AccessDenied", "Access Denied", ""), "Permission", "write objects"),
        (Reply::text(403, ""), "Permission", "write objects"),
        (error(404, "NoSuchBucket", "The specified bucket does not exist", ""), "BucketMissing", "core.assets.s3.bucket"),
        (error(404, "NoSuchKey", "The specified key does not exist.", ""), "NotFound", "path_prefix"),
        (Reply::text(404, ""), "NotFound", "path_prefix"),
        (Reply::text(404, "<html><h1>404 Not Found</h1></html>"), "NotFound", "path_prefix"),
        (error(403, "QuotaExceeded", "Quota exceeded", ""), "Quota", "raise the quota"),
        (error(403, "AccessDenied", "Cannot upload files, storage cap exceeded.", ""), "Quota", "raise the quota"),
        (Reply::text(402, "Payment Required"), "Quota", "raise the quota"),
        (Reply::text(507, ""), "Quota", "raise the quota"),
        (Reply::text(400, "Client sent an HTTP request to an HTTPS server.\n"), "TlsRequired", "use_ssl = true"),
        (error(400, "InvalidPart", "All non-trailing parts must have the same length.", ""), "Unexpected", "All non-trailing parts"),
        (error(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size", ""), "Unexpected", "EntityTooSmall"),
        (error(501, "NotImplemented", "not implemented", ""), "Unexpected", "501"),
        (Reply::text(418, "<html>\u{1b}[31mteapot</html>"), "Unexpected", " [31mteapot"),
    ] {
        assert_cause(&reply, variant, advice);
    }
}

#[test]
fn busy_services_are_asked_three_times() {
    for reply in [
        Reply::error(503, "SlowDown", "Please reduce your request rate.", ""),
        Reply::error(503, "ServiceUnavailable", "no tomes available", ""),
        Reply::error(
            500,
            "InternalError",
            "An internal error occurred. Please retry your upload.",
            "",
        ),
        Reply::error(400, "RequestTimeout", "Your socket connection was not read from", ""),
        Reply::error(307, "TemporaryRedirect", "Please re-send this request", "")
            .with("Location", "https://x.example/"),
        Reply::text(429, "<html>too many</html>"),
        Reply::text(502, "<html>bad gateway</html>"),
    ] {
        let sent = reply.clone();
        let proxy = FaultyS3::start(1, move |_| Fate::Refuse(sent.clone()));
        let error = smol::block_on(s3(config(proxy.port())).put("a", Bytes::new())).unwrap_err();
        assert!(matches!(error, S3Error::Busy { .. }) && error.is_transient(), "{error:?}");
        let connections: Vec<_> = proxy.seen().iter().map(|seen| seen.connection).collect();
        assert_eq!(connections, [0, 1, 2], "each try has its own connection");
    }
}

/// The date of the response says that clocks differ, whatever the code says (rclone: 400 `AccessDenied`).
#[test]
#[expect(clippy::disallowed_methods, reason = "the clock of a service")]
fn clocks_that_differ_are_told_from_wrong_keys() {
    let theirs = SystemTime::now() + Duration::from_secs(3 * 3600 + 30);
    let date = httpdate::fmt_http_date(theirs);
    for reply in [
        Reply::error(403, "SignatureDoesNotMatch", "no match", ""),
        Reply::error(400, "AccessDenied", "Access Denied", ""),
        Reply::error(403, "RequestTimeTooSkewed", "too large", ""),
    ] {
        assert_cause(&reply.with("Date", &date), "Clock", "180 minutes");
    }
}

/// HEAD has no body, so the cause comes from a GET after it.
#[test]
fn a_failing_head_is_explained_by_a_get() {
    let proxy = FaultyS3::start(1, |request| {
        let reply = Reply::error(403, "InvalidAccessKeyId", "unknown", "");
        Fate::Refuse(if request.method == "HEAD" { Reply::text(403, "") } else { reply })
    });
    let s3 = s3(config(proxy.port()));
    let error = smol::block_on(s3.head("a")).unwrap_err();
    assert!(matches!(error, S3Error::AccessKey), "{error:?}");
    let error = smol::block_on(s3.check()).unwrap_err();
    assert!(matches!(error, S3Error::AccessKey), "{error:?}");
}

#[test]
fn a_service_that_is_not_there_is_unreachable() {
    let port = crate::support::port::free_port();
    let error = smol::block_on(s3(config(port)).check()).unwrap_err();
    assert!(matches!(error, S3Error::Unreachable { .. }) && error.is_transient(), "{error:?}");
    assert!(error.to_string().contains(&port.to_string()), "{error}");
    let nowhere = Config { endpoint: "http://s3.nowhere.invalid".to_owned(), ..config(port) };
    let error = smol::block_on(s3(nowhere).put("a", Bytes::new())).unwrap_err();
    assert!(matches!(error, S3Error::Unreachable { .. }), "{error:?}");
}

#[test]
fn a_service_that_does_not_respond_is_given_up() {
    let server = S3Server::start(Kind::SeaweedFs);
    let proxy = FaultyS3::start(server.port(), |_| Fate::Delay(Duration::from_secs(3)));
    let slow = Config { timeout: Duration::from_millis(200), ..config(proxy.port()) };
    let error = smol::block_on(s3(slow).put("a", Bytes::new())).unwrap_err();
    assert!(matches!(error, S3Error::Timeout { .. }) && error.is_transient(), "{error:?}");
    assert_eq!(proxy.seen().len(), 1, "nobody waits for three deadlines");
}

#[test]
fn a_session_token_is_sent_and_signed() {
    let proxy = FaultyS3::start(1, |_| Fate::Refuse(Reply::text(200, "")));
    let mut config = config(proxy.port());
    config.session_token = Some(Secret::from("temporary".to_owned()));
    smol::block_on(s3(config).put("a", Bytes::from_static(b"x"))).unwrap();
    let seen = proxy.seen();
    assert_eq!(seen[0].header("x-amz-security-token"), Some("temporary"));
    let authorization = seen[0].header("authorization").unwrap();
    assert!(authorization.contains("x-amz-security-token"), "{authorization}");
    // What some services do not accept is not sent.
    for header in ["accept-encoding", "content-encoding", "x-amz-sdk-checksum-algorithm", "expect"]
    {
        assert_eq!(seen[0].header(header), None);
    }
    let hash = chatto::crypto::hex(&chatto::crypto::sha256(b"x"));
    assert_eq!(seen[0].header("x-amz-content-sha256"), Some(hash.as_str()));
}

#[test]
fn tls_trusts_the_configured_authority_only() {
    let authority = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    let server = S3Server::start_with(Kind::SeaweedFs, Some(&authority.issue()));
    let trusted = dir.path().join("ca.pem");
    std::fs::write(&trusted, authority.pem()).unwrap();
    let right = Config {
        endpoint: format!("https://localhost:{}", server.port()),
        path_style: Some(true),
        ca_cert: Some(trusted),
        ..server.config()
    };
    smol::block_on(async {
        let trusting = s3(right.clone());
        // SeaweedFS accepts requests before its parts have found each other.
        let clock = chatto::runtime::Clock::system();
        let mut found = trusting.check().await;
        for _ in 0..100 {
            if !matches!(found, Err(S3Error::Busy { .. } | S3Error::Cut { .. })) {
                break;
            }
            clock.sleep(Duration::from_millis(100)).await;
            found = trusting.check().await;
        }
        found.unwrap();

        let other = dir.path().join("other.pem");
        std::fs::write(&other, Authority::new().pem()).unwrap();
        let error = s3(Config { ca_cert: Some(other), ..right.clone() }).check().await.unwrap_err();
        assert!(matches!(error, S3Error::Tls { .. }) && !error.is_transient(), "{error:?}");
        assert!(error.to_string().contains("ca_cert"), "{error}");

        let plain =
            Config { endpoint: format!("http://localhost:{}", server.port()), ..right.clone() };
        let error = s3(plain).check().await.unwrap_err();
        assert!(matches!(error, S3Error::TlsRequired { .. }), "{error:?}");
    });

    let plain = S3Server::start(Kind::SeaweedFs);
    let tls = Config { endpoint: format!("https://localhost:{}", plain.port()), ..right };
    let error = smol::block_on(s3(tls).check()).unwrap_err();
    assert!(matches!(error, S3Error::Tls { .. }), "{error:?}");
    assert!(error.to_string().contains("use_ssl = false"), "{error}");
}
