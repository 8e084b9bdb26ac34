//! Names of rooms and roles, descriptions, and idempotency keys.

use super::{folded, is_visible, shown};
use crate::limits::{
    DESCRIPTION_MAX_CHARS, IDEMPOTENCY_KEY_MAX_CHARS, ROLE_NAME_MAX_CHARS, ROOM_NAME_MAX_CHARS,
};

/// A channel's name: trimmed, NFC, without invisible characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomName(String);

/// Why a text is not a room name. The contract defines the text of `TooLong`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RoomNameError {
    /// It has no visible characters.
    #[error("room name must not be empty")]
    Empty,
    #[error("room name must be {ROOM_NAME_MAX_CHARS} characters or less")]
    TooLong,
    /// A control character or a line separator.
    #[error("room name contains a character that is not allowed")]
    Characters,
}

impl RoomName {
    /// Trims, normalises, removes invisible characters, and checks.
    ///
    /// # Errors
    /// [`RoomNameError`] naming the first rule that is broken.
    pub fn parse(text: &str) -> Result<Self, RoomNameError> {
        let name = shown(text);
        if name.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
            Err(RoomNameError::Characters)
        } else if !name.chars().any(is_visible) {
            Err(RoomNameError::Empty)
        } else if name.chars().count() > ROOM_NAME_MAX_CHARS {
            Err(RoomNameError::TooLong)
        } else {
            Ok(Self(name))
        }
    }

    /// As it is shown.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form that must be unique among all channels.
    #[must_use]
    pub fn key(&self) -> String {
        folded(&self.0)
    }
}

/// A description has more than [`DESCRIPTION_MAX_CHARS`] characters. The contract defines the text for rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("room description must be {DESCRIPTION_MAX_CHARS} characters or less")]
pub struct DescriptionError;

/// Checks a description's length and returns it unchanged.
///
/// # Errors
/// [`DescriptionError`] when it is longer than that.
pub fn description(text: &str) -> Result<&str, DescriptionError> {
    if text.chars().count() <= DESCRIPTION_MAX_CHARS { Ok(text) } else { Err(DescriptionError) }
}

/// The text is not a role name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("role name must be lower case letters, digits and hyphens, beginning with a letter")]
pub struct RoleNameError;

/// Checks `^[a-z]([a-z0-9-]*[a-z0-9])?$`, up to [`ROLE_NAME_MAX_CHARS`] characters.
pub fn role_name(text: &str) -> Result<&str, RoleNameError> {
    let allowed = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    let fits = text.len() <= ROLE_NAME_MAX_CHARS
        && text.bytes().all(|byte| allowed(&byte))
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-');
    if fits { Ok(text) } else { Err(RoleNameError) }
}

/// Identifies repetitions of the same call (contract 3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// The text is not an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("idempotency-key must be 1 to {IDEMPOTENCY_KEY_MAX_CHARS} visible ASCII characters")]
pub struct IdempotencyKeyError;

impl IdempotencyKey {
    /// Checks the length and the characters.
    pub fn parse(text: &str) -> Result<Self, IdempotencyKeyError> {
        let fits = (1..=IDEMPOTENCY_KEY_MAX_CHARS).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self(text.to_owned())) } else { Err(IdempotencyKeyError) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn room_names() {
        for (typed, kept) in [
            ("a", "a"),
            (" general ", "general"),
            ("caf\u{65}\u{301}", "caf\u{e9}"),
            ("two  words / ok", "two  words / ok"),
            (&"x".repeat(30), &"x".repeat(30)),
            (&"e\u{301}".repeat(30), &"\u{e9}".repeat(30)),
            ("\u{202e}general\u{200b}", "general"),
            ("gen\u{2060}\u{200d}eral\u{2066} \u{feff}", "general"),
            ("gener\u{ad}al\u{2800}\u{3164}", "general"),
            ("me\u{200d}\u{301}", "m\u{e9}"),
            ("\u{645}\u{6cc}\u{200c}\u{62e}", "\u{645}\u{6cc}\u{200c}\u{62e}"),
            ("\u{2764}\u{fe0f}\u{200d}\u{1f525}", "\u{2764}\u{fe0f}\u{200d}\u{1f525}"),
            ("\u{3000}\u{200d}a", "a"),
        ] {
            assert_eq!(RoomName::parse(typed).unwrap().as_str(), kept);
        }
        for (bad, why) in [
            ("", RoomNameError::Empty),
            ("  ", RoomNameError::Empty),
            ("\u{200b}\u{200d}", RoomNameError::Empty),
            ("\u{3164}", RoomNameError::Empty),
            ("\u{2800}", RoomNameError::Empty),
            ("\u{1d159}", RoomNameError::Empty),
            (&"x".repeat(31), RoomNameError::TooLong),
            ("a\nb", RoomNameError::Characters),
            ("a\u{7f}", RoomNameError::Characters),
            ("a\u{2028}b", RoomNameError::Characters),
            ("a\u{2029}b", RoomNameError::Characters),
        ] {
            assert_eq!(RoomName::parse(bad), Err(why), "{bad:?}");
        }
        assert_eq!(
            RoomNameError::TooLong.to_string(),
            "room name must be 30 characters or less",
            "fixed by the contract"
        );
    }

    #[test]
    fn room_names_are_unique_by_their_folded_form() {
        let key = |text: &str| RoomName::parse(text).unwrap().key();
        for (a, b) in [
            ("General", "gENERAL"),
            ("straße", "STRASSE"),
            ("ﬁles", "FILES"),
            ("Ａ１", "a1"),
            ("caf\u{e9}", "CAFE\u{301}"),
            ("general", "gen\u{200b}er\u{2060}al\u{202e}"),
            ("\u{2764}", "\u{2764}\u{fe0f}"),
            ("kit chen", "kit  chen"),
            ("kit chen", "kit\u{2009}\u{a0}chen"),
            ("kitchen", "kitchen\u{fff9}\u{fffc}\u{fffe}\u{110bd}\u{13430}\u{16fe4}\u{1d159}"),
            ("\u{645}\u{6cc}\u{62e}", "\u{645}\u{6cc}\u{200c}\u{62e}"),
        ] {
            assert_eq!(key(a), key(b), "{a} {b}");
        }
        assert_ne!(key("a"), key("b"));
    }

    #[test]
    fn descriptions_have_up_to_500_characters() {
        assert!(description(&"ä".repeat(500)).is_ok());
        let error = description(&"ä".repeat(501)).unwrap_err();
        assert_eq!(error.to_string(), "room description must be 500 characters or less");
        assert_eq!(description(""), Ok(""));
    }

    #[test]
    fn idempotency_keys() {
        for good in ["a", "key-1", "~!", &"k".repeat(128)] {
            assert_eq!(IdempotencyKey::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a\n", "ä", &"k".repeat(129)] {
            assert_eq!(IdempotencyKey::parse(bad), Err(IdempotencyKeyError), "{bad}");
        }
    }

    #[test]
    fn role_names() {
        for good in ["a", "a1", "a-b", "a--b", &"a".repeat(32)] {
            assert_eq!(role_name(good), Ok(good));
        }
        for bad in ["", "A", "1a", "-a", "a-", "a_b", "a b", "ä", &"a".repeat(33)] {
            assert_eq!(role_name(bad), Err(RoleNameError), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn room_names_stay_what_they_are(text in "\\PC{0,40}") {
            if let Ok(name) = RoomName::parse(&text) {
                prop_assert_eq!(RoomName::parse(name.as_str()), Ok(name.clone()));
                prop_assert_eq!(folded(&name.key()), name.key());
            }
        }
    }
}
