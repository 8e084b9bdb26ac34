//! Values and their text forms, with one parser per kind for the file, the environment and the defaults.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::table::Kind;
use crate::crypto::Secret;
use crate::domain::Authority;
use crate::http::Network;

/// A parsed value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Text, words, URLs.
    Text(String),
    Secret(Secret),
    Bool(bool),
    Int(i64),
    Duration(Duration),
    /// Bytes.
    Size(u64),
    /// `auto`, or `always` for intervals.
    Special,
    /// A path, not yet resolved.
    Path(PathBuf),
    Ip(IpAddr),
    List(Vec<String>),
}

/// Parses the text form: environment variables and defaults.
///
/// # Errors
/// A sentence that says what the value must be.
pub(super) fn parse_text(kind: Kind, secret: bool, text: &str) -> Result<Value, String> {
    if secret {
        return Ok(Value::Secret(Secret::new(text.as_bytes().to_vec())));
    }
    let wrong = || Err(must_be(kind));
    match kind {
        Kind::Text | Kind::Any => Ok(Value::Text(text.to_owned())),
        Kind::Choice(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
        Kind::Choice(_) => wrong(),
        Kind::Bool => match text {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => wrong(),
        },
        Kind::Int { .. } | Kind::OneOf(_) | Kind::Port => {
            text.parse().map_or_else(|_| wrong(), |n| parse_int(kind, n))
        }
        Kind::AutoInt if text == "auto" => Ok(Value::Special),
        Kind::AutoInt => text.parse().map_or_else(|_| wrong(), |n| parse_int(kind, n)),
        Kind::Interval if text == "always" => Ok(Value::Special),
        Kind::Duration | Kind::Interval => {
            parse_duration(text).map_or_else(wrong, |duration| Ok(Value::Duration(duration)))
        }
        Kind::AutoSize if text == "auto" => Ok(Value::Special),
        Kind::BinarySize => {
            parse_size(&as_binary(text)).map_or_else(wrong, |size| Ok(Value::Size(size)))
        }
        Kind::Size | Kind::AutoSize => {
            parse_size(text).map_or_else(wrong, |size| Ok(Value::Size(size)))
        }
        Kind::Path | Kind::WorkPath if text.is_empty() || text.contains('\0') => wrong(),
        Kind::Path | Kind::WorkPath => Ok(Value::Path(PathBuf::from(text))),
        Kind::Origin => parse_origin(text).map_or_else(wrong, |origin| Ok(Value::Text(origin))),
        Kind::Url => {
            if is_url(text, &["http", "https", "ws", "wss"]) {
                Ok(Value::Text(text.to_owned()))
            } else {
                wrong()
            }
        }
        Kind::Ip => text.parse().map_or_else(|_| wrong(), |address| Ok(Value::Ip(address))),
        Kind::Mode0600 if matches!(text, "0600" | "600" | "0o600") => {
            Ok(Value::Text("0600".to_owned()))
        }
        Kind::Mode0600 => wrong(),
        Kind::List | Kind::NatsUrls | Kind::Networks => {
            parse_list(kind, text.split(',').map(|item| item.trim().to_owned()))
        }
    }
}

/// Parses a value of the file, whose type must fit the key.
///
/// # Errors
/// A sentence that says what the value must be.
pub(super) fn parse_toml(kind: Kind, secret: bool, value: &DeValue<'_>) -> Result<Value, String> {
    let wrong = || Err(if secret { "must be text in quotes".to_owned() } else { must_be(kind) });
    if let Some(text) = value.as_str() {
        let takes_text =
            secret || !matches!(kind, Kind::Bool | Kind::Int { .. } | Kind::OneOf(_) | Kind::Port);
        return if takes_text { parse_text(kind, secret, text) } else { wrong() };
    }
    if secret {
        return wrong();
    }
    match (kind, value) {
        (Kind::Any, _) => Ok(Value::Text(String::new())),
        (Kind::Bool, DeValue::Boolean(value)) => Ok(Value::Bool(*value)),
        (
            Kind::Int { .. }
            | Kind::OneOf(_)
            | Kind::Port
            | Kind::AutoInt
            | Kind::Size
            | Kind::BinarySize
            | Kind::AutoSize
            | Kind::Mode0600,
            DeValue::Integer(number),
        ) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| wrong(), |n| parse_int(kind, n)),
        (Kind::List | Kind::NatsUrls | Kind::Networks, DeValue::Array(items)) => {
            let texts: Option<Vec<String>> =
                items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect();
            texts.map_or_else(wrong, |texts| parse_list(kind, texts.into_iter()))
        }
        _ => wrong(),
    }
}

fn parse_int(kind: Kind, n: i64) -> Result<Value, String> {
    let fits = match kind {
        Kind::Int { min, max } => (min..=max).contains(&n),
        Kind::OneOf(numbers) => numbers.contains(&n),
        Kind::Port => (0..=65_535).contains(&n),
        Kind::AutoInt => n > 0,
        Kind::Size | Kind::BinarySize | Kind::AutoSize => {
            return u64::try_from(n).map(Value::Size).map_err(|_| must_be(kind));
        }
        Kind::Mode0600 if n == 0o600 => return Ok(Value::Text("0600".to_owned())),
        _ => false,
    };
    if fits { Ok(Value::Int(n)) } else { Err(must_be(kind)) }
}

fn parse_list(kind: Kind, items: impl Iterator<Item = String>) -> Result<Value, String> {
    let items: Vec<String> = items.filter(|item| !item.is_empty()).collect();
    match kind {
        Kind::NatsUrls => {
            let good = items.iter().all(|item| is_nats_url(item));
            if good { Ok(Value::List(items)) } else { Err(must_be(kind)) }
        }
        Kind::Networks => {
            let good = items.iter().all(|item| Network::parse(item).is_ok());
            if good { Ok(Value::List(items)) } else { Err(must_be(kind)) }
        }
        _ => Ok(Value::List(items)),
    }
}

/// What a value of this kind must be, as the end of a sentence about its key.
pub(super) fn must_be(kind: Kind) -> String {
    match kind {
        Kind::Text | Kind::Any => "must be text".to_owned(),
        Kind::Choice(words) => format!("must be {}", or_list(words.iter())),
        Kind::Bool => "must be true or false".to_owned(),
        Kind::Int { min, max } => format!("must be a whole number from {min} to {max}"),
        Kind::OneOf(numbers) => format!("must be {}", or_list(numbers.iter())),
        Kind::Duration => "must be a duration such as 30s, 15m, 12h, 90d or 1w".to_owned(),
        Kind::Interval => "must be always, or a duration such as 2s".to_owned(),
        Kind::Size => "must be a size such as 25MB or 25MiB".to_owned(),
        Kind::BinarySize => "must be a size such as 25MB or 25MiB, which are the same".to_owned(),
        Kind::AutoSize => "must be auto, or a size such as 512MB or 512MiB".to_owned(),
        Kind::AutoInt => "must be auto, or a whole number above 0".to_owned(),
        Kind::Path | Kind::WorkPath => "must be a path".to_owned(),
        Kind::Origin => {
            "must be an origin such as https://chat.example.org, without a path".to_owned()
        }
        Kind::Url => "must be a URL such as https://livekit.example.org".to_owned(),
        Kind::Ip => "must be an IP address".to_owned(),
        Kind::Port => "must be a port from 0 to 65535".to_owned(),
        Kind::List => "must be a list of texts".to_owned(),
        Kind::NatsUrls => {
            "must be URLs such as nats://host:4222, comma-separated, without credentials".to_owned()
        }
        Kind::Networks => {
            "must be a list of IP addresses, networks such as 10.0.0.0/8, or loopback".to_owned()
        }
        Kind::Mode0600 => "must be 0600: only this account may use the socket".to_owned(),
    }
}

fn or_list<T: ToString>(items: impl Iterator<Item = T>) -> String {
    let mut items: Vec<String> = items.map(|item| item.to_string()).collect();
    match items.pop() {
        Some(last) if !items.is_empty() => format!("{} or {last}", items.join(", ")),
        last => last.unwrap_or_default(),
    }
}

/// `90d`, `1w`, `15m`, `1h30m`, `250ms`; nothing else, and no bare numbers.
fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at_checked(digits)?;
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at_checked(unit)?;
        let number: u64 = number.parse().ok()?;
        let part = match unit {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            "d" => Duration::from_secs(number.checked_mul(86_400)?),
            "w" => Duration::from_secs(number.checked_mul(7 * 86_400)?),
            _ => return None,
        };
        total = total.checked_add(part)?;
        rest = next;
    }
    Some(total)
}

/// `25MB` (decimal), `25MiB` (binary), or a bare number of bytes.
fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let factor: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// The same size with the binary unit instead of the decimal one: `25 MB` as `25 MiB`.
fn as_binary(text: &str) -> String {
    match text.strip_suffix('B') {
        Some(rest) if rest.ends_with(['k', 'K']) => {
            format!("{}KiB", rest.trim_end_matches(['k', 'K']))
        }
        Some(rest) if rest.ends_with(['M', 'G', 'T']) => format!("{rest}iB"),
        _ => text.to_owned(),
    }
}

/// The origin without a final slash.
fn parse_origin(text: &str) -> Option<String> {
    let origin = text.strip_suffix('/').unwrap_or(text);
    let (_, rest) = origin.split_once("://")?;
    let plain = !rest.contains(['/', '?', '#']);
    (plain && is_url(origin, &["http", "https"])).then(|| origin.to_owned())
}

fn is_url(text: &str, schemes: &[&str]) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    schemes.contains(&scheme)
        && is_authority(authority)
        && text.chars().all(|c| c.is_ascii_graphic())
}

fn is_nats_url(text: &str) -> bool {
    match text.split_once("://") {
        Some((scheme, authority)) => {
            matches!(scheme, "nats" | "tls") && is_authority(authority.trim_end_matches('/'))
        }
        None => is_authority(text),
    }
}

/// A host, optionally with a port that is not 0 and not empty; no credentials.
fn is_authority(text: &str) -> bool {
    let port = Authority::parse(text).map(Authority::port);
    port.is_some_and(|port| port != Some(0)) && !text.ends_with(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in
            [("90d", 7_776_000), ("1w", 604_800), ("15m", 900), ("30s", 30), ("1h30m", 5400)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "5", "s", "-1s", "1.5h", "1 s", "1y", "99999999999999999999s", "ü"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("25MB", 25_000_000),
            ("25MiB", 26_214_400),
            ("512 KiB", 524_288),
            ("7", 7),
            ("1kB", 1000),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "MB", "-1MB", "1.5MB", "1 XB", "99999999TiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
        for (text, bytes) in [
            ("25 MB", 26_214_400),
            ("25MiB", 26_214_400),
            ("1kB", 1024),
            ("1 KB", 1024),
            ("2GB", 2 << 30),
            ("7B", 7),
            ("7", 7),
        ] {
            let parsed = parse_text(Kind::BinarySize, false, text);
            assert!(matches!(parsed, Ok(Value::Size(size)) if size == bytes), "{text}");
        }
    }

    #[test]
    fn origins() {
        for good in ["https://chat.example.org", "http://192.168.1.5:4000", "http://[::1]:4000"] {
            assert_eq!(parse_origin(good).as_deref(), Some(good));
        }
        assert_eq!(parse_origin("https://a.example/").as_deref(), Some("https://a.example"));
        for bad in [
            "",
            "chat.example.org",
            "ftp://a",
            "https://",
            "https://a/b",
            "https://u:p@a",
            "https://a:x",
        ] {
            assert_eq!(parse_origin(bad), None, "{bad}");
        }
    }

    #[test]
    fn nats_urls() {
        for good in ["nats://nats-1:4222", "tls://a.example", "127.0.0.1:4222", "nats://[::1]:4222"]
        {
            assert!(is_nats_url(good), "{good}");
        }
        for bad in ["nats://user:pass@a:4222", "http://a", "nats://", "a b"] {
            assert!(!is_nats_url(bad), "{bad}");
        }
    }
}
