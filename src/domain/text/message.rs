//! Message bodies, reaction names and custom status.

use super::is_visible;
use crate::limits::{
    BODY_MAX_BYTES, EMOJI_SHORTCODE_MAX_CHARS, STATUS_EMOJI_MAX_CHARS, STATUS_TEXT_MAX_CHARS,
};

/// A message body, stored as sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body(String);

/// Why a text is not a message body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It has no visible characters and no attachments.
    #[error("message must not be empty")]
    Empty,
    #[error("message must be {BODY_MAX_BYTES} bytes or less")]
    TooLong,
}

impl Body {
    /// Checks a body; with attachments it may be empty.
    pub fn parse(text: &str, has_attachments: bool) -> Result<Self, BodyError> {
        if text.len() > BODY_MAX_BYTES {
            Err(BodyError::TooLong)
        } else if !has_attachments && !text.chars().any(is_visible) {
            Err(BodyError::Empty)
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    /// As sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text does not have the form of an emoji name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an emoji name")]
pub struct EmojiError;

/// Checks the form of a reaction: characters of `[a-z0-9_+-]`, at most [`EMOJI_SHORTCODE_MAX_CHARS`]. The
/// list of names is up to the client.
pub fn emoji_shortcode(text: &str) -> Result<&str, EmojiError> {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'+' | b'-');
    let fits = (1..=EMOJI_SHORTCODE_MAX_CHARS).contains(&text.len()) && text.bytes().all(allowed);
    if fits { Ok(text) } else { Err(EmojiError) }
}

/// Emoji or text of a custom status is missing or too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "status needs an emoji of up to {STATUS_EMOJI_MAX_CHARS} and a text of up to {STATUS_TEXT_MAX_CHARS} characters"
)]
pub struct StatusError;

/// Checks a custom status: both parts are required.
pub fn custom_status<'a>(emoji: &'a str, text: &'a str) -> Result<(&'a str, &'a str), StatusError> {
    let fits = (1..=STATUS_EMOJI_MAX_CHARS).contains(&emoji.chars().count())
        && (1..=STATUS_TEXT_MAX_CHARS).contains(&text.chars().count());
    if fits { Ok((emoji, text)) } else { Err(StatusError) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies() {
        for good in ["x", " x ", "\u{200b}x", "🙂", &"x".repeat(10_000), &"ä".repeat(5_000)] {
            assert_eq!(Body::parse(good, false).unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", BodyError::Empty),
            (" \n\t\u{a0}", BodyError::Empty),
            ("\u{200b}\u{feff}\u{7}", BodyError::Empty),
            (&"x".repeat(10_001), BodyError::TooLong),
            (&format!("{}x", "ä".repeat(5_000)), BodyError::TooLong),
        ] {
            assert_eq!(Body::parse(bad, false), Err(why));
        }
        assert_eq!(Body::parse("", true).unwrap().as_str(), "");
        assert_eq!(Body::parse(&"x".repeat(10_001), true), Err(BodyError::TooLong));
    }

    #[test]
    fn emoji_names() {
        for good in ["+1", "heart", "melting_face", "-", &"a".repeat(64)] {
            assert_eq!(emoji_shortcode(good), Ok(good));
        }
        for bad in ["", "Heart", ":heart:", "❤", "a b", &"a".repeat(65)] {
            assert_eq!(emoji_shortcode(bad), Err(EmojiError), "{bad}");
        }
    }

    #[test]
    fn custom_states() {
        let long = |c: &str, n| c.repeat(n);
        assert!(custom_status("🌴", "away").is_ok());
        assert!(custom_status(&long("🌴", 16), &long("ä", 100)).is_ok());
        assert!(custom_status("", "away").is_err());
        assert!(custom_status("🌴", "").is_err());
        assert!(custom_status(&long("🌴", 17), "away").is_err());
        assert!(custom_status("🌴", &long("ä", 101)).is_err());
    }
}
