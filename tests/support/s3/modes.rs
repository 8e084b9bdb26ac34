//! What services do differently, for the proxy in front of a real server. `docs/s3.md` lists these services; they cannot
//! be reached from a test. The bodies of errors are those of the vendors' documentation and of public bug reports.

use std::collections::HashMap;

use super::proxy::{Fate, Reply, Seen};

/// The region of a request's signature.
fn region(request: &Seen) -> String {
    let authorization = request.header("authorization").unwrap_or_default();
    authorization.split('/').nth(2).unwrap_or_default().to_owned()
}

fn has_checksum(request: &Seen) -> bool {
    let named =
        |name: &str| name.starts_with("x-amz-checksum-") || name == "x-amz-sdk-checksum-algorithm";
    request.headers.iter().any(|(name, _)| named(name))
}

fn streams(request: &Seen) -> bool {
    request.header("x-amz-content-sha256").is_some_and(|hash| hash.starts_with("STREAMING"))
}

/// Cloudflare R2: parts of equal length, no checksum headers, no streaming signatures, random ETags of parts.
pub(crate) fn r2() -> impl FnMut(&Seen) -> Fate + Send {
    // The length of each upload's first part.
    let mut lengths: HashMap<String, Vec<usize>> = HashMap::new();
    move |request| {
        if streams(request) {
            let text = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD not implemented";
            return Fate::Refuse(Reply::error(501, "NotImplemented", text, ""));
        }
        if has_checksum(request) {
            return Fate::Refuse(Reply::error(
                400,
                "InvalidArgument",
                "Unsupported header 'x-amz-checksum-crc32' received for this API call.",
                "",
            ));
        }
        let id = request.target.split("uploadId=").nth(1).unwrap_or_default().to_owned();
        if request.is_part() {
            lengths.entry(id).or_default().push(request.body.len());
            return Fate::Pass;
        }
        if request.is_completion() {
            let parts = lengths.remove(&id).unwrap_or_default();
            let (_, all_but_last) = parts.split_last().expect("parts");
            if all_but_last.windows(2).any(|pair| pair[0] != pair[1]) {
                let text = "All non-trailing parts must have the same length.";
                return Fate::Refuse(Reply::error(400, "InvalidPart", text, ""));
            }
        }
        // "Multipart ETags are random": whoever compares them with a hash fails.
        if matches!(request.method.as_str(), "GET" | "HEAD")
            && request.of_object()
            && request.header("if-match").is_none()
        {
            return Fate::PassChanged(
                Box::new(|_| ()),
                Box::new(|reply| {
                    for (name, value) in &mut reply.headers {
                        if name == "etag" {
                            *value = "\"b54357faf0632cce46e942fa68356b38-random\"".to_owned();
                        }
                    }
                }),
            );
        }
        Fate::Pass
    }
}

/// Backblaze B2: no checksum headers, and every tenth part finds a full pod, which stays full for its connection.
pub(crate) fn b2() -> impl FnMut(&Seen) -> Fate + Send {
    let mut parts = 0;
    let mut full = std::collections::HashSet::new();
    move |request| {
        if has_checksum(request) {
            return Fate::Refuse(Reply::error(
                400,
                "InvalidArgument",
                "Unsupported header 'x-amz-checksum-crc32' received for this API call.",
                "",
            ));
        }
        if request.is_part() {
            parts += 1;
            if parts % 10 == 2 {
                full.insert(request.connection);
            }
        }
        if full.contains(&request.connection) {
            return Fate::Refuse(Reply::error(503, "ServiceUnavailable", "no tomes available", ""));
        }
        Fate::Pass
    }
}

/// Google Cloud Storage: changes `Accept-Encoding` before the signature is verified; knows another code for the name of a
/// bucket that is taken.
pub(crate) fn google() -> impl FnMut(&Seen) -> Fate + Send {
    |request| {
        if request.method == "PUT" && !request.of_object() {
            let text = "The requested bucket name is not available.";
            return Fate::Refuse(Reply::error(409, "BucketNameUnavailable", text, ""));
        }
        let change = |request: &mut Seen| match request
            .headers
            .iter_mut()
            .find(|(name, _)| name == "accept-encoding")
        {
            Some((_, value)) => value.push_str(",gzip(gfe)"),
            None => request.headers.push(("accept-encoding".to_owned(), "gzip(gfe)".to_owned())),
        };
        Fate::PassChanged(Box::new(change), Box::new(|_| ()))
    }
}

/// AWS in `eu-central-1`: refuses other regions, redirects the first requests of a new bucket, and lets the first
/// completion fail in a body that began with 200.
pub(crate) fn aws() -> impl FnMut(&Seen) -> Fate + Send {
    let mut completions = 0;
    let mut redirects = 0;
    move |request| {
        let signed = region(request);
        if signed != "eu-central-1" && request.of_object() {
            let text = format!(
                "The authorization header is malformed; the region '{signed}' is wrong; expecting 'eu-central-1'"
            );
            return Fate::Refuse(Reply::error(
                400,
                "AuthorizationHeaderMalformed",
                &text,
                "<Region>eu-central-1</Region>",
            ));
        }
        if signed != "eu-central-1" {
            let text = "The bucket you are attempting to access must be addressed using the specified endpoint.";
            let reply = Reply::error(
                301,
                "PermanentRedirect",
                text,
                "<Endpoint>files.s3.eu-central-1.amazonaws.com</Endpoint>",
            );
            return Fate::Refuse(reply.with("x-amz-bucket-region", "eu-central-1"));
        }
        if request.method == "PUT" && !request.is_part() && redirects == 0 {
            redirects += 1;
            let text = "Please re-send this request to the specified temporary endpoint. Continue to use the original request endpoint for future requests.";
            let reply = Reply::error(
                307,
                "TemporaryRedirect",
                text,
                "<Endpoint>files.s3-eu-central-1.amazonaws.com</Endpoint>",
            );
            return Fate::Refuse(
                reply.with("Location", "https://files.s3-eu-central-1.amazonaws.com/"),
            );
        }
        if request.is_completion() {
            completions += 1;
            if completions == 1 {
                let error = Reply::error(
                    200,
                    "InternalError",
                    "We encountered an internal error. Please try again.",
                    "",
                );
                let body = [b"   ".as_slice(), &error.body].concat();
                return Fate::Refuse(Reply { body, ..error });
            }
        }
        Fate::Pass
    }
}

/// Garage: knows only its own region.
pub(crate) fn garage() -> impl FnMut(&Seen) -> Fate + Send {
    |request| {
        let signed = region(request);
        if signed == "garage" {
            return Fate::Pass;
        }
        let text = format!(
            "Authorization header malformed, unexpected scope: 20251215/{signed}/s3/aws4_request"
        );
        Fate::Refuse(Reply::error(
            400,
            "AuthorizationHeaderMalformed",
            &text,
            "<Region>garage</Region>",
        ))
    }
}
