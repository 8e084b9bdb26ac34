//! The check of a bucket, on real servers.

use bytes::Bytes;
use chatto::blobs::s3::{Action, Bucket, Config, S3Error};
use chatto::crypto::Secret;

use crate::support::s3::proxy::{Fate, FaultyS3, Reply};
use crate::support::s3::{Kind, PREFIX, READER, S3Server, config, s3};

fn secret(text: &str) -> Secret {
    Secret::from(text.to_owned())
}

fn check(config: Config) -> Result<Bucket, S3Error> {
    smol::block_on(s3(config).check())
}

#[test]
fn a_bucket_is_created_once_and_wrong_settings_are_named() {
    for kind in Kind::chosen() {
        let server = S3Server::start(kind);
        let right = server.config();
        let missing = smol::block_on(s3(right.clone()).put("a", Bytes::new())).unwrap_err();
        assert!(matches!(missing, S3Error::BucketMissing { .. }), "{kind:?}: {missing}");
        assert_eq!(check(right.clone()).unwrap(), Bucket::Created, "{kind:?}");
        assert_eq!(check(right.clone()).unwrap(), Bucket::Existed, "{kind:?}");
        // The probe leaves nothing.
        let listed = smol::block_on(s3(right.clone()).list("", None)).unwrap();
        assert_eq!(listed.entries, [], "{kind:?}");

        let wrong_key = Config { access_key_id: secret("other-key"), ..right.clone() };
        let error = check(wrong_key).unwrap_err();
        assert!(matches!(error, S3Error::AccessKey), "{kind:?}: {error:?}");
        let wrong_secret = Config { secret_access_key: secret("other-secret"), ..right.clone() };
        let error = check(wrong_secret).unwrap_err();
        assert!(matches!(error, S3Error::Secret), "{kind:?}: {error:?}");
        if kind == Kind::Versitygw {
            let wrong_region = Config { region: Some("mars-1".to_owned()), ..right.clone() };
            let error = check(wrong_region).unwrap_err();
            let S3Error::Region { expected, .. } = &error else { panic!("{error:?}") };
            assert_eq!(expected, "us-east-1");
        }
        if kind == Kind::SeaweedFs {
            let (key, secret_key) = READER;
            let reader = Config {
                access_key_id: secret(key),
                secret_access_key: secret(secret_key),
                ..right.clone()
            };
            let error = check(reader).unwrap_err();
            assert!(matches!(error, S3Error::Permission { action: Action::Write }), "{error:?}");
        }
        for text in [format!("{right:?}"), format!("{:?}", s3(right.clone()))] {
            assert!(!text.contains("owner-secret-key"), "{text}");
        }
    }
}

/// The statuses that services give to the creation of a bucket and to the HEAD after it.
#[test]
fn head_decides_whose_a_bucket_is() {
    let cases = [
        // HEAD before, creation, HEAD after.
        (404, (409, "BucketAlreadyExists"), 403, "BucketForeign"),
        (404, (409, "BucketNameUnavailable"), 403, "BucketForeign"),
        (404, (409, "BucketAlreadyExists"), 404, "Busy"),
        (404, (403, "AccessDenied"), 404, "BucketMissing"),
        (404, (403, "AccessDenied"), 403, "Permission"),
        (403, (409, "BucketAlreadyExists"), 403, "BucketForeign"),
        (403, (403, "AccessDenied"), 403, "Permission"),
    ];
    for (before, (created, code), after, expected) in cases {
        let mut creations = 0;
        let proxy = FaultyS3::start(1, move |request| {
            let of_bucket = !request.of_object();
            let reply = if of_bucket && request.method == "PUT" {
                creations += 1;
                Reply::error(created, code, "refused", "")
            } else {
                match if creations == 0 { before } else { after } {
                    404 => {
                        Reply::error(404, "NoSuchBucket", "The specified bucket does not exist", "")
                    }
                    status => Reply::error(status, "AccessDenied", "Access Denied", ""),
                }
            };
            Fate::Refuse(reply)
        });
        let error = check(config(proxy.port())).unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{code} {after}: {error:?}");
    }
}

/// Somebody else creates the bucket between our two requests, or it may be used but not looked at.
#[test]
fn a_bucket_that_is_there_after_all_is_fine() {
    let server = S3Server::start(Kind::SeaweedFs);
    assert_eq!(check(server.config()).unwrap(), Bucket::Created);
    for created in
        [(409, "BucketAlreadyOwnedByYou"), (409, "OperationConflict"), (403, "AccessDenied")]
    {
        let mut heads = 0;
        let proxy = FaultyS3::start(server.port(), move |request| {
            if request.of_object() {
                return Fate::Pass;
            }
            if request.method == "PUT" {
                return Fate::Refuse(Reply::error(created.0, created.1, "refused", ""));
            }
            heads += 1;
            match heads {
                // The HEAD and the GET that asks for its cause.
                1 | 2 => Fate::Refuse(Reply::error(404, "NoSuchBucket", "", "")),
                _ => Fate::Pass,
            }
        });
        assert_eq!(check(config(proxy.port())).unwrap(), Bucket::Existed, "{created:?}");
    }
    let proxy = FaultyS3::start(server.port(), |request| {
        if request.of_object() {
            return Fate::Pass;
        }
        Fate::Refuse(Reply::error(403, "AccessDenied", "Access Denied", ""))
    });
    assert_eq!(check(config(proxy.port())).unwrap(), Bucket::Existed);
}

/// AWS refuses a constraint for us-east-1 and wants one elsewhere; Ceph knows zone groups only.
#[test]
fn the_region_is_sent_where_a_bucket_is_created() {
    for (region, sent) in
        [("us-east-1", &[false][..]), ("auto", &[false]), ("fsn1", &[true, false])]
    {
        let (tx, bodies) = std::sync::mpsc::channel();
        let proxy = FaultyS3::start(1, move |request| {
            if request.method == "PUT" && !request.of_object() {
                let body = String::from_utf8(request.body.clone()).unwrap();
                tx.send(body.contains("<LocationConstraint>fsn1</LocationConstraint>")).unwrap();
                let text = "The specified location-constraint is not valid";
                return Fate::Refuse(Reply::error(400, "InvalidLocationConstraint", text, ""));
            }
            Fate::Refuse(Reply::error(404, "NoSuchBucket", "", ""))
        });
        let mut config = config(proxy.port());
        config.region = Some(region.to_owned());
        assert!(matches!(check(config), Err(S3Error::RegionUnknown { .. })), "{region}");
        assert_eq!(bodies.try_iter().collect::<Vec<_>>(), sent, "{region}");
    }
}

/// As of a service that does not know the parameters of later pages.
#[test]
fn a_listing_that_begins_again_with_each_page_ends_with_an_error() {
    let entry =
        |element: &str, more: &str| format!("<{element}><Key>{PREFIX}/a</Key>{more}</{element}>");
    let page = |entry: String| format!("<R><IsTruncated>true</IsTruncated>{entry}</R>");
    let objects = page(entry("Contents", "<Size>1</Size>"));
    let uploads = page(entry("Upload", "<UploadId>1</UploadId>"));
    let proxy = FaultyS3::start(1, move |request| {
        let of_uploads = request.target.contains("uploads=");
        Fate::Refuse(Reply::text(200, if of_uploads { &uploads } else { &objects }))
    });
    let bucket = s3(config(proxy.port()));
    let first = smol::block_on(bucket.list("", None)).unwrap();
    assert_eq!(first.next.as_deref(), Some("a"));
    let again = smol::block_on(bucket.list("", first.next.as_deref())).unwrap_err();
    assert!(matches!(again, S3Error::Invalid { .. }), "{again:?}");
    let first = smol::block_on(bucket.list_multipart("", None)).unwrap();
    assert!(first.next.is_some());
    let again = smol::block_on(bucket.list_multipart("", first.next.as_ref())).unwrap_err();
    assert!(matches!(again, S3Error::Invalid { .. }), "{again:?}");
}
