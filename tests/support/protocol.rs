//! The client protocol of NATS as far as a proxy needs it: where a message ends, and what its subject is.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;

/// A line of the protocol, with the payload that follows it.
pub(crate) struct Line {
    pub(crate) bytes: Vec<u8>,
    words: Vec<String>,
    carries: bool,
}

impl Line {
    /// Reads the next one; `None`: the connection has ended.
    pub(crate) fn read(from: &mut BufReader<&TcpStream>) -> Option<Self> {
        let mut bytes = Vec::new();
        if !matches!(from.read_until(b'\n', &mut bytes), Ok(1..)) {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let words: Vec<String> = text.split_ascii_whitespace().map(str::to_owned).collect();
        let carries =
            matches!(words.first().map(String::as_str), Some("PUB" | "HPUB" | "MSG" | "HMSG"));
        if let Some(size) = words.last().filter(|_| carries) {
            let size = size.parse::<u64>().expect("a size");
            from.take(size + 2).read_to_end(&mut bytes).ok()?;
        }
        Some(Self { bytes, words, carries })
    }

    /// The subject of a message in either direction.
    pub(crate) fn subject(&self) -> Option<&str> {
        self.carries.then(|| self.words[1].as_str())
    }

    /// Where the reply to a message of the client goes.
    pub(crate) fn reply(&self) -> Option<&str> {
        let sizes = match self.words.first()?.as_str() {
            "PUB" => 1,
            "HPUB" => 2,
            _ => return None,
        };
        (self.words.len() == 3 + sizes).then(|| self.words[2].as_str())
    }
}
