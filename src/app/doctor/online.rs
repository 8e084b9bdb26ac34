//! The checks that use the network, made with `--online`: host name, public URL, what a proxy forwards, certificate, S3,
//! external NATS. They are made from this machine; a firewall between it and the clients is not noticed.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use serde_json::Value;

use crate::app::parts;
use crate::blobs::s3::{S3, S3Error};
use crate::config::Settings;
use crate::http::{DOCTOR_HEADER, Fetched, Network, Origin};
use crate::limits::DOCTOR_ONLINE_TIMEOUT;
use crate::nats::Nats;
use crate::observe::chain;
use crate::runtime::{Clock, blocking};

use super::store::{Running, assess_version};
use super::tls;
use super::{Check, Facts};

const DNS: &str = "online.dns";
const URL: &str = "online.url";
const PROXY: &str = "online.proxy";
const SOCKETS: &str = "online.websocket";
const BUCKET: &str = "online.s3";
const NATS: &str = "online.nats";

/// An address for documentation (RFC 5737), which no client has.
const FALSE_ADDRESS: &str = "192.0.2.77";

pub(super) fn check(facts: &Facts<'_>) -> Vec<Check> {
    smol::block_on(async {
        let mut checks = public_url(facts).await;
        checks.extend(bucket(facts).await);
        checks.extend(external_nats(facts).await);
        checks
    })
}

async fn public_url(facts: &Facts<'_>) -> Vec<Check> {
    let Some(url) = &facts.settings.webserver.url else {
        let text = "webserver.url is not set, so there is no public address to check";
        let fix = "set webserver.url if people use a domain name or a proxy";
        return vec![Check::skipped(URL, text).fix(fix)];
    };
    let Some(origin) = Origin::parse(url) else {
        return vec![
            Check::fail(URL, format!("webserver.url is {url}, which is no address"))
                .fix("set webserver.url = \"https://NAME\""),
        ];
    };
    let addresses = match resolve(&origin, facts.clock).await {
        Ok(addresses) => addresses,
        Err(check) => return vec![check],
    };
    let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let mut checks =
        vec![Check::ok(DNS, format!("{} has the addresses {}", origin.host, list.join(", ")))];
    let headers =
        [("Connection", "close"), ("X-Forwarded-For", FALSE_ADDRESS), (DOCTOR_HEADER, "1")];
    let request = Box::pin(origin.get("/healthz", &headers));
    let response = match facts.clock.timeout(DOCTOR_ONLINE_TIMEOUT, request).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            checks.push(unreachable(url, &chain(&error)));
            return checks;
        }
        Err(elapsed) => {
            checks.push(unreachable(url, &elapsed.to_string()));
            return checks;
        }
    };
    checks.extend(response.certificate_ends_ms.map(|ends_ms| {
        tls::assess(&format!("the certificate at {url}"), ends_ms, facts.clock.unix_ms())
    }));
    checks.push(health(url, &response));
    let seen = Seen::of(&response);
    checks.push(proxy(facts.settings, &origin, &addresses, seen.as_ref()));
    checks.push(sockets(&origin, facts.clock).await);
    checks
}

fn unreachable(url: &str, why: &str) -> Check {
    let text = format!("{url} cannot be reached from this machine: {why}");
    let fix = "compare webserver.url with the proxy and its certificate (docs/https.md). A router that does not lead \
               its own address back needs a check from outside: curl URL/healthz on a phone's network";
    Check::fail(URL, text).fix(fix)
}

/// The addresses of the host; the error is the check that says why there is none.
async fn resolve(origin: &Origin, clock: &Clock) -> Result<Vec<IpAddr>, Check> {
    let (host, port) = (origin.host.clone(), origin.port);
    let lookup = blocking(move || (host.as_str(), port).to_socket_addrs().map(Vec::from_iter));
    let found: Result<Vec<SocketAddr>, String> =
        match clock.timeout(DOCTOR_ONLINE_TIMEOUT, lookup).await {
            Ok(found) => found.map_err(|error| error.to_string()),
            Err(elapsed) => Err(elapsed.to_string()),
        };
    match found {
        Ok(found) if !found.is_empty() => {
            let mut addresses: Vec<IpAddr> = found.iter().map(SocketAddr::ip).collect();
            addresses.sort();
            addresses.dedup();
            Ok(addresses)
        }
        _ if origin.host.ends_with(".local") => {
            let text = format!(
                "{} is a name of mDNS, which this program does not look up; clients in the same network may",
                origin.host
            );
            Err(Check::skipped(DNS, text)
                .fix(format!("avahi-resolve -n {} shows its address", origin.host)))
        }
        other => {
            let why = other.err().unwrap_or_else(|| "no address".to_owned());
            let text =
                format!("the host name {} of webserver.url cannot be resolved: {why}", origin.host);
            let fix = "add the name to the DNS of its domain, or correct webserver.url; resolvectl query NAME shows what this machine gets";
            Err(Check::fail(DNS, text).fix(fix))
        }
    }
}

fn health(url: &str, response: &Fetched) -> Check {
    let body: Option<Value> = serde_json::from_slice(&response.body).ok();
    let is_ours = body.is_some_and(|body| body.get("status").and_then(Value::as_str) == Some("ok"));
    match response.status {
        200 if is_ours => Check::ok(URL, format!("{url} leads to a chatto server")),
        502..=504 => {
            let text = format!(
                "the proxy at {url} responds with {}: it does not reach the server",
                response.status
            );
            Check::fail(URL, text)
                .fix("start the server, and compare the proxy's target with webserver.port")
        }
        status => {
            let text =
                format!("{url}/healthz responds with status {status}, not as a chatto server does");
            Check::fail(URL, text)
                .fix("let the proxy pass all paths on to webserver.port (docs/https.md)")
        }
    }
}

/// What the server knows of the client of a request.
#[derive(Debug)]
struct Seen {
    client: IpAddr,
    is_https: bool,
}

impl Seen {
    fn of(response: &Fetched) -> Option<Self> {
        let body: Value = serde_json::from_slice(&response.body).ok()?;
        let client = body.get("client")?.as_str()?.parse().ok()?;
        Some(Self { client, is_https: body.get("https")?.as_bool()? })
    }
}

/// The request named a false address of its client. A proxy must replace it, or add the true one.
fn proxy(settings: &Settings, origin: &Origin, addresses: &[IpAddr], seen: Option<&Seen>) -> Check {
    let Some(seen) = seen else {
        return Check::skipped(
            PROXY,
            "the server did not say what the proxy forwards: it is older, or not this one",
        );
    };
    if addresses.iter().all(IpAddr::is_loopback) {
        return Check::skipped(
            PROXY,
            "webserver.url leads to this machine alone, so no proxy is checked",
        );
    }
    if seen.client.to_string() == FALSE_ADDRESS {
        let text = "the proxy passes the header X-Forwarded-For of clients on unchanged: anybody can pretend any address, \
                    and avoids the limits on guessed passwords";
        let fix = "nginx: proxy_set_header X-Forwarded-For $remote_addr; HAProxy: http-request set-header X-Forwarded-For %[src]";
        return Check::fail(PROXY, text).fix(fix);
    }
    let trusted = &settings.webserver.trusted_proxies;
    if seen.client.is_loopback() || trusted.iter().any(|net: &Network| net.contains(seen.client)) {
        let text = format!(
            "the proxy forwards no address of its client, so all clients count as one ({}) for every limit",
            seen.client
        );
        let fix = "let the proxy set X-Forwarded-For (docs/https.md), and list its address in webserver.trusted_proxies";
        return Check::fail(PROXY, text).fix(fix);
    }
    if origin.is_https && !seen.is_https && settings.webserver.tls.is_none() {
        let text =
            "the proxy does not forward the scheme: the server takes https requests for http ones";
        let fix = "nginx: proxy_set_header X-Forwarded-Proto $scheme; and list the proxy in webserver.trusted_proxies";
        return Check::warn(PROXY, text).fix(fix);
    }
    Check::ok(
        PROXY,
        format!("the server sees the address of its clients (this machine is {})", seen.client),
    )
}

/// Whether a WebSocket passes through.
async fn sockets(origin: &Origin, clock: &Clock) -> Check {
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        // Any 16 bytes in base64 (RFC 6455, 4.1).
        ("Sec-WebSocket-Key", "Y2hhdHRvLWRvY3Rvci4uLg=="),
    ];
    let request = Box::pin(origin.get("/api/realtime", &headers));
    let asked = clock.timeout(DOCTOR_ONLINE_TIMEOUT, request).await;
    let why = match asked {
        Ok(Ok(Fetched { status: 101, .. })) => {
            return Check::ok(SOCKETS, "WebSockets pass through");
        }
        Ok(Ok(response)) => format!("status {}", response.status),
        Ok(Err(error)) => chain(&error),
        Err(elapsed) => elapsed.to_string(),
    };
    let text = format!(
        "a WebSocket to {}/api/realtime is not opened ({why}): clients see nothing new by themselves",
        origin.host
    );
    let fix = "nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\"";
    Check::fail(SOCKETS, text).fix(fix)
}

async fn bucket(facts: &Facts<'_>) -> Option<Check> {
    let config = facts.settings.assets.s3.clone()?;
    let fix = "compare core.assets.s3 with the service; docs/s3.md explains each error";
    let bucket = match S3::build(config, facts.clock.clone()) {
        Ok(bucket) => bucket,
        Err(error) => {
            let text = format!("core.assets.s3 cannot be used: {}", chain(&error));
            return Some(Check::fail(BUCKET, text).fix(fix));
        }
    };
    let name = format!("{} at {}", bucket.bucket(), bucket.origin());
    let found = facts.clock.timeout(DOCTOR_ONLINE_TIMEOUT, Box::pin(bucket.find_bucket())).await;
    Some(match found {
        Ok(Ok(())) => Check::ok(BUCKET, format!("the bucket {name} is there")),
        Ok(Err(S3Error::BucketMissing { .. })) => {
            let text = format!("the bucket {name} does not exist");
            Check::warn(BUCKET, text)
                .fix("the next start of the server creates it, if the access key may")
        }
        Ok(Err(error @ S3Error::Permission { .. })) => {
            let text = format!(
                "the access key may not look at the bucket {name} ({}); that may be intended",
                chain(&error)
            );
            Check::note(BUCKET, text).fix("chatto status shows whether files can be stored")
        }
        Ok(Err(error)) => {
            Check::fail(BUCKET, format!("the bucket {name} cannot be used: {}", chain(&error)))
                .fix(fix)
        }
        Err(elapsed) => {
            Check::fail(BUCKET, format!("the bucket {name} does not reply: {elapsed}")).fix(fix)
        }
    })
}

/// Where a running server has told the version already, nothing is asked.
async fn external_nats(facts: &Facts<'_>) -> Option<Check> {
    if facts.settings.embedded.is_some() || matches!(facts.running, Running::Yes(_)) {
        return None;
    }
    let connected = async {
        let nats = Nats::connect(&parts::cluster(facts.settings), facts.clock.clone()).await?;
        nats.wait_connected(DOCTOR_ONLINE_TIMEOUT).await?;
        let version = nats.server_version().to_string();
        nats.expect_disconnect();
        Ok::<_, crate::app::AppError>(version)
    };
    Some(match Box::pin(connected).await {
        Ok(version) => assess_version(NATS, &version, None),
        Err(error) => {
            let text = format!("the external NATS cannot be used: {}", chain(&error));
            Check::fail(NATS, text).fix("start it, or correct nats.client in the configuration")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn response(status: u16, body: &str) -> Fetched {
        Fetched { status, body: body.as_bytes().to_vec(), certificate_ends_ms: None }
    }

    #[test]
    fn the_response_tells_the_server_from_its_proxy_and_from_others() {
        let verdict =
            |status, body| health("https://chat.example", &response(status, body)).verdict;
        assert_eq!(verdict(200, r#"{"status":"ok"}"#), Verdict::Ok);
        assert_eq!(verdict(200, "<html>welcome</html>"), Verdict::Fail);
        assert_eq!(verdict(404, ""), Verdict::Fail);
        let proxy = health("https://chat.example", &response(502, ""));
        assert!(proxy.text.contains("does not reach the server"), "{proxy:?}");
    }

    fn settings(text: &str) -> Settings {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("chatto.toml"), text).unwrap();
        let inputs = crate::config::Inputs {
            file: None,
            variables: Vec::new(),
            working_dir: dir.path().to_owned(),
            system_file: dir.path().join("none"),
        };
        crate::config::examine(&inputs, crate::config::Purpose::Examine).settings.unwrap()
    }

    #[test]
    fn what_a_proxy_forwards_is_seen_in_what_the_server_knows() {
        let settings = settings("[webserver]\nurl = \"https://chat.example\"\n");
        let origin = Origin::parse("https://chat.example").unwrap();
        let verdict = |body: &str, address: &str| {
            let seen = Seen::of(&response(200, body));
            proxy(&settings, &origin, &[address.parse().unwrap()], seen.as_ref()).verdict
        };
        let lan = "192.168.1.5";
        for (body, verdict_of_it) in [
            (r#"{"client":"192.168.1.5","https":true}"#, Verdict::Ok),
            (r#"{"client":"192.168.1.5","https":false}"#, Verdict::Warn),
            (r#"{"client":"192.0.2.77","https":true}"#, Verdict::Fail),
            (r#"{"client":"127.0.0.1","https":true}"#, Verdict::Fail),
            (r#"{"status":"ok"}"#, Verdict::Skipped),
        ] {
            assert_eq!(verdict(body, lan), verdict_of_it, "{body}");
        }
        assert_eq!(
            verdict(r#"{"client":"192.0.2.77","https":true}"#, "127.0.0.1"),
            Verdict::Skipped
        );
    }

    #[test]
    fn a_name_without_an_address_is_reported_with_its_setting() {
        let clock = Clock::system();
        let resolved = |url: &str| {
            let origin = Origin::parse(url).unwrap();
            smol::block_on(resolve(&origin, &clock))
        };
        let loopback = resolved("http://127.0.0.1:4000").unwrap();
        assert_eq!(loopback, ["127.0.0.1".parse::<IpAddr>().unwrap()]);
        let unknown = resolved("https://no-such-host.invalid").unwrap_err();
        assert_eq!((unknown.code, unknown.verdict), (DNS, Verdict::Fail));
        assert!(unknown.text.contains("webserver.url"), "{unknown:?}");
    }
}
