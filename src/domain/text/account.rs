//! Logins, display names, passwords and e-mail addresses.

use std::fmt;

use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory as _};
use zeroize::Zeroizing;

use super::is_ignorable;
use crate::limits::{
    DISPLAY_NAME_MAX_CHARS, EMAIL_MAX_BYTES, LOGIN_MAX_CHARS, LOGIN_MIN_CHARS, PASSWORD_MAX_CHARS,
    PASSWORD_MIN_CHARS,
};

/// The suffix that distinguishes bots from people.
const BOT_SUFFIX: &str = "_bot";

/// The login of a person: case is preserved but ignored for uniqueness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login(String);

/// Why a text is not a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    #[error("username must have {LOGIN_MIN_CHARS} to {LOGIN_MAX_CHARS} characters")]
    Length,
    #[error("username may contain only letters, digits, '.', '_' and '-'")]
    Characters,
    #[error("username must begin with a letter or digit")]
    Start,
    #[error("username must not end with a period or contain two in a row")]
    Periods,
    #[error("username must not end in {BOT_SUFFIX}")]
    BotSuffix,
}

impl Login {
    /// Checks a person's login.
    ///
    /// # Errors
    /// [`LoginError`] naming the first rule that is broken.
    pub fn parse(text: &str) -> Result<Self, LoginError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !(LOGIN_MIN_CHARS..=LOGIN_MAX_CHARS).contains(&text.chars().count()) {
            Err(LoginError::Length)
        } else if !text.chars().all(allowed) {
            Err(LoginError::Characters)
        } else if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            Err(LoginError::Start)
        } else if text.ends_with('.') || text.contains("..") {
            Err(LoginError::Periods)
        } else if text.to_ascii_lowercase().ends_with(BOT_SUFFIX) {
            Err(LoginError::BotSuffix)
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    /// As typed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form that must be unique.
    #[must_use]
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

/// Whether a login is reserved: a role's name, a mention of many users, or on the blocked list.
pub fn is_reserved_login<'a>(
    login: &str,
    roles: impl IntoIterator<Item = &'a str>,
    blocked: impl IntoIterator<Item = &'a str>,
) -> bool {
    ["all", "here", "everyone"]
        .into_iter()
        .chain(roles)
        .chain(blocked)
        .any(|name| name.eq_ignore_ascii_case(login))
}

/// The name shown for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisplayName(String);

/// Why a text is not a display name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DisplayNameError {
    /// It is empty or too long after trimming.
    #[error("display name must have 1 to {DISPLAY_NAME_MAX_CHARS} characters")]
    Length,
    #[error("display name must begin with a letter or digit")]
    Start,
    #[error("display name contains a character that is not allowed")]
    Characters,
    #[error("display name must not contain two spaces in a row")]
    Spaces,
}

impl DisplayName {
    /// Trims and checks.
    ///
    /// # Errors
    /// [`DisplayNameError`] naming the first rule that is broken.
    pub fn parse(text: &str) -> Result<Self, DisplayNameError> {
        let text = text.trim();
        let Some(first) = text.chars().next() else { return Err(DisplayNameError::Length) };
        if text.chars().count() > DISPLAY_NAME_MAX_CHARS {
            Err(DisplayNameError::Length)
        } else if !is_letter_or_digit(first) {
            Err(DisplayNameError::Start)
        } else if !text.chars().all(is_name_char) {
            Err(DisplayNameError::Characters)
        } else if text.contains("  ") {
            Err(DisplayNameError::Spaces)
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    /// The trimmed text, as shown.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_letter_or_digit(c: char) -> bool {
    let is_one = c.general_category_group() == GeneralCategoryGroup::Letter
        || c.general_category() == GeneralCategory::DecimalNumber;
    is_one && !is_ignorable(c)
}

fn is_name_char(c: char) -> bool {
    // Emoji use variation selectors.
    let is_seen = !is_ignorable(c) || matches!(c, '\u{fe0e}' | '\u{fe0f}');
    let is_name = is_letter_or_digit(c)
        || matches!(
            c.general_category_group(),
            GeneralCategoryGroup::Mark | GeneralCategoryGroup::Symbol
        )
        || matches!(c, ' ' | '-' | '\'' | '.' | '_');
    is_name && is_seen
}

/// A password as typed. It cannot be printed and is wiped when dropped.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

/// The password is shorter than [`PASSWORD_MIN_CHARS`] or longer than [`PASSWORD_MAX_CHARS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("password must have {PASSWORD_MIN_CHARS} to {PASSWORD_MAX_CHARS} characters")]
pub struct PasswordError;

impl Password {
    /// Checks the length.
    ///
    /// # Errors
    /// [`PasswordError`] if it is too short or too long.
    pub fn parse(text: &str) -> Result<Self, PasswordError> {
        let length = text.chars().count();
        let fits = (PASSWORD_MIN_CHARS..=PASSWORD_MAX_CHARS).contains(&length);
        if fits { Ok(Self(Zeroizing::new(text.to_owned()))) } else { Err(PasswordError) }
    }

    /// The password itself, for hashing only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// An e-mail address, trimmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email(String);

/// The text is not an e-mail address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an e-mail address")]
pub struct EmailError;

impl Email {
    /// Trims and checks the form: a name, one `@`, a host. Only an e-mail can show whether the address exists.
    pub fn parse(text: &str) -> Result<Self, EmailError> {
        let text = text.trim();
        let Some((name, host)) = text.split_once('@') else { return Err(EmailError) };
        let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"<>()[],;:\\\"".contains(c);
        let host_is_one = !host.is_empty()
            && !host.contains('@')
            && host.split('.').all(|label| !label.is_empty());
        let fits = text.len() <= EMAIL_MAX_BYTES && text.chars().all(plain);
        if fits && host_is_one && !name.is_empty() {
            Ok(Self(text.to_owned()))
        } else {
            Err(EmailError)
        }
    }

    /// As typed, trimmed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form in which addresses are compared: lower case.
    #[must_use]
    pub fn key(&self) -> String {
        self.0.to_lowercase()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn logins() {
        for good in ["ab", "a.b", "0-_", "Ada", "a_bot_", "robot", &"x".repeat(32)] {
            assert_eq!(Login::parse(good).unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", LoginError::Length),
            ("a", LoginError::Length),
            (&"x".repeat(33), LoginError::Length),
            ("a b", LoginError::Characters),
            ("aé", LoginError::Characters),
            ("a@b", LoginError::Characters),
            (".ab", LoginError::Start),
            ("_ab", LoginError::Start),
            ("ab.", LoginError::Periods),
            ("a..b", LoginError::Periods),
            ("x_bot", LoginError::BotSuffix),
            ("x_BOT", LoginError::BotSuffix),
        ] {
            assert_eq!(Login::parse(bad), Err(why), "{bad}");
        }
        assert_eq!(Login::parse("AdA").unwrap().key(), "ada");
    }

    #[test]
    fn reserved_logins() {
        let reserved = |login| is_reserved_login(login, ["owner"], ["root"]);
        for login in ["all", "Here", "EVERYONE", "owner", "OWNER", "root", "Root"] {
            assert!(reserved(login), "{login}");
        }
        assert!(!reserved("ada") && !reserved("rooted"));
    }

    #[test]
    fn display_names() {
        for (typed, kept) in [
            ("Ada", "Ada"),
            ("  Ada Lovelace ", "Ada Lovelace"),
            ("Jean-Luc O'Neill Jr._", "Jean-Luc O'Neill Jr._"),
            ("Zoë", "Zoë"),
            ("李 小龙", "李 小龙"),
            ("9 lives ★", "9 lives ★"),
            ("n\u{303}", "n\u{303}"),
            (&"x".repeat(32), &"x".repeat(32)),
            (&"é".repeat(32), &"é".repeat(32)),
        ] {
            assert_eq!(DisplayName::parse(typed).unwrap().as_str(), kept);
        }
        for (bad, why) in [
            ("", DisplayNameError::Length),
            ("   ", DisplayNameError::Length),
            (&"x".repeat(33), DisplayNameError::Length),
            ("-a", DisplayNameError::Start),
            ("★", DisplayNameError::Start),
            ("a\tb", DisplayNameError::Characters),
            ("a\u{200b}b", DisplayNameError::Characters),
            ("a\u{202e}b", DisplayNameError::Characters),
            ("a\u{3164}", DisplayNameError::Characters),
            ("a\u{34f}b", DisplayNameError::Characters),
            ("a\u{2800}b", DisplayNameError::Characters),
            ("\u{3164}", DisplayNameError::Start),
            ("a/b", DisplayNameError::Characters),
            ("a@b", DisplayNameError::Characters),
            ("a\u{a0}b", DisplayNameError::Characters),
            ("a  b", DisplayNameError::Spaces),
        ] {
            assert_eq!(DisplayName::parse(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn passwords_have_8_to_128_characters() {
        for (length, fits) in [(7, false), (8, true), (128, true), (129, false)] {
            assert_eq!(Password::parse(&"ü".repeat(length)).is_ok(), fits, "{length}");
        }
        assert_eq!(format!("{:?}", Password::parse("12345678").unwrap()), "***");
    }

    #[test]
    fn email_addresses() {
        for good in ["a@b", " ada@example.com ", "a+b@x.co", &format!("{}@x.de", "a".repeat(249))] {
            assert_eq!(Email::parse(good).unwrap().as_str(), good.trim());
        }
        for bad in [
            "",
            "a",
            "@b",
            "a@",
            "a@b@c",
            "a b@c",
            "a@b..c",
            "a@.c",
            "<a@b>",
            "a@b\nc",
            &format!("{}@x.de", "a".repeat(250)),
        ] {
            assert_eq!(Email::parse(bad), Err(EmailError), "{bad:?}");
        }
        assert_eq!(Email::parse("Ada@Example.COM").unwrap().key(), "ada@example.com");
    }

    proptest! {
        #[test]
        fn parsing_is_idempotent(text in "\\PC{0,40}") {
            if let Ok(name) = DisplayName::parse(&text) {
                prop_assert_eq!(DisplayName::parse(name.as_str()), Ok(name));
            }
            if let Ok(address) = Email::parse(&text) {
                prop_assert_eq!(Email::parse(address.as_str()), Ok(address));
            }
        }

        #[test]
        fn keys_ignore_case(text in "[A-Za-z0-9][A-Za-z0-9-]{1,30}") {
            let upper = Login::parse(&text.to_uppercase()).unwrap();
            prop_assert_eq!(upper.key(), Login::parse(&text).unwrap().key());
        }
    }
}
