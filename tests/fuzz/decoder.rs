//! Target: both encodings of every request of the contract and of the frames that a realtime client sends.
//!
//! The first two bytes of an input choose the message, the third one the encoding. The value rules must check every
//! accepted message without a panic, and the message must survive a round trip through each encoding.

use bytes::Bytes;
use chatto::contract::{
    Encoding, MethodVisitor, Rpc, Validate, Wire, binary, decode, each_method, encode, realtime,
};

/// The outcome of an input, to recognise new outcomes.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Outcome {
    message: usize,
    encoding: Encoding,
    /// Coarse: refused, or accepted with so many bytes.
    accepted: Option<u32>,
    is_valid: bool,
}

type Check = fn(Encoding, Bytes) -> Result<Option<(u32, bool)>, String>;

struct Messages(Vec<Check>);

impl MethodVisitor for Messages {
    fn visit<R: Rpc>(&mut self) {
        self.0.push(|encoding, body| {
            check::<R::Request>(encoding, body, |request| request.validate().is_ok())
        });
        self.0.push(|encoding, body| check::<R::Response>(encoding, body, |_| true));
    }
}

fn check<M: Wire>(
    encoding: Encoding,
    body: Bytes,
    is_valid: impl Fn(&M) -> bool,
) -> Result<Option<(u32, bool)>, String> {
    let Ok(message) = decode::<M>(encoding, body) else { return Ok(None) };
    let is_valid = is_valid(&message);
    let first = binary(&message);
    for form in [Encoding::Proto, Encoding::Json] {
        // Times and lengths beyond what JSON can write come in the binary form only.
        let Ok(written) = encode(&message, form) else {
            if form == encoding {
                return Err(format!("{} was read and cannot be written", M::full_name()));
            }
            continue;
        };
        let again = decode::<M>(form, written.clone().into()).map_err(|error| {
            let text = written.escape_ascii();
            format!("{}: what we wrote cannot be read ({error}): {text}", M::full_name())
        })?;
        if binary(&again) != first {
            let text = written.escape_ascii();
            return Err(format!("{} is another message after {form:?}: {text}", M::full_name()));
        }
    }
    Ok(Some((first.len().next_power_of_two().trailing_zeros(), is_valid)))
}

const DICTIONARY: &[&[u8]] = &[
    b"{}",
    b"[]",
    b"null",
    b"true",
    b"\"\"",
    b"\"roomId\":",
    b"\"body\":",
    b"\"page\":{\"limit\":1}",
    b"\"updateMask\":\"a,bC\"",
    b"\"2024-01-01T00:00:00Z\"",
    b"\"1.5s\"",
    b"-1",
    b"1e400",
    b"18446744073709551615",
    b"-9223372036854775808",
    b"\"\\ud800\"",
    b"\"NaN\"",
    b"\"AAEC\"",
    b"\x08\x01",
    b"\x0a\x00",
    b"\x0a\x02\x08\x01",
    b"\x12\x7f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x0b\x0c",
    b"[[[[[[[[",
    b"{\"a\":{\"a\":",
    b",",
    b":",
];

#[test]
fn decoders_take_any_bytes() {
    let mut messages = Messages(Vec::new());
    each_method(&mut messages);
    messages
        .0
        .push(|encoding, body| check::<realtime::RealtimeClientFrame>(encoding, body, |_| true));
    messages
        .0
        .push(|encoding, body| check::<realtime::RealtimeServerFrame>(encoding, body, |_| true));
    let checks = messages.0;
    let count = checks.len();
    let mut seeds = Vec::new();
    for n in 0..count {
        let [high, low] = u16::try_from(n).unwrap().to_be_bytes();
        seeds.push(vec![high, low, 0]);
        seeds.push(vec![high, low, 0, 0x0a, 0x01, b'a', 0x12, 0x01, b'b', 0x18, 0x01]);
        let json = br#"{"id":"a","roomId":"R1","userId":"U1","page":{"limit":3},"body":"x"}"#;
        seeds.push([&[high, low, 1], json.as_slice()].concat());
    }
    super::run("decoder", seeds, DICTIONARY, 200_000, |input| {
        let [high, low, form, body @ ..] = input else { return Ok(None) };
        let message = usize::from(u16::from_be_bytes([*high, *low])) % count;
        let encoding = if form % 2 == 0 { Encoding::Proto } else { Encoding::Json };
        let accepted = checks[message](encoding, Bytes::copy_from_slice(body))?;
        let is_valid = accepted.is_some_and(|(_, is_valid)| is_valid);
        let accepted = accepted.map(|(size, _)| size);
        Ok(Some(Outcome { message, encoding, accepted, is_valid }))
    });
}
