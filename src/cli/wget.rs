//! `wget -q --spider URL`: the health check of containers. The image has a link of this name to the program, and no
//! other wget.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::{Exit, output};
use crate::http::probe;
use crate::limits::{HEALTH_CHECK_TIMEOUT, OUTPUT_FLUSH_TIMEOUT};
use crate::observe;
use crate::runtime::Clock;

const USAGE: &str = "this wget can only check a server: wget -q --spider http://HOST:PORT/PATH";

/// Whether the program was called by the name `wget`.
pub(super) fn is_meant(program: &OsStr) -> bool {
    Path::new(program).file_name().is_some_and(|name| name == "wget")
}

/// Checks the server at the URL: success if it responds with a status of 2xx. What is wrong is printed even with `-q`,
/// because Docker keeps the output of a failed check. It reserves the exit code 2, so wrong usage is 1, too.
pub(super) fn run(words: impl Iterator<Item = OsString>) -> Exit {
    let fault = match parse(words) {
        Err(fault) => format!("{fault}\n{USAGE}"),
        Ok(url) => match smol::block_on(probe(&url, &Clock::system(), HEALTH_CHECK_TIMEOUT)) {
            Ok(200..300) => return Exit::Success,
            Ok(status) => format!("{url}: the server responded with status {status}"),
            Err(error) => format!("{url}: {}", observe::chain(&error)),
        },
    };
    output::print_stderr(&format!("wget: {fault}"));
    observe::flush(OUTPUT_FLUSH_TIMEOUT);
    Exit::Failed
}

/// The URL, or what is wrong with the words.
fn parse(words: impl Iterator<Item = OsString>) -> Result<String, String> {
    let (mut url, mut is_spider) = (None, false);
    for word in words {
        let word = word.into_string().map_err(|_| "an argument is not UTF-8 text".to_owned())?;
        match word.as_str() {
            "-q" | "--quiet" => {}
            "--spider" => is_spider = true,
            option if option.starts_with('-') => return Err(format!("unknown option `{option}`")),
            _ if url.is_some() => return Err(format!("more than one URL: `{word}`")),
            _ => url = Some(word),
        }
    }
    match url {
        None => Err("the URL is missing".to_owned()),
        Some(_) if !is_spider => Err("--spider is missing".to_owned()),
        Some(url) => Ok(url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<String, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_name_decides() {
        for (program, expected) in [
            ("wget", true),
            ("/usr/bin/wget", true),
            ("chatto", false),
            ("/wget/chatto", false),
            ("", false),
        ] {
            assert_eq!(is_meant(OsStr::new(program)), expected, "{program}");
        }
    }

    #[test]
    fn health_checks_are_understood() {
        for line in ["-q --spider http://x", "--spider http://x -q", "--quiet --spider http://x"] {
            assert_eq!(parsed(line), Ok("http://x".to_owned()), "{line}");
        }
    }

    #[test]
    fn anything_else_says_what_is_wrong() {
        for (line, expected) in [
            ("", "the URL is missing"),
            ("-q --spider", "the URL is missing"),
            ("-q http://x", "--spider is missing"),
            ("-qO- http://x", "unknown option `-qO-`"),
            ("--spider http://x http://y", "more than one URL: `http://y`"),
        ] {
            assert_eq!(parsed(line), Err(expected.to_owned()), "{line}");
        }
    }
}
