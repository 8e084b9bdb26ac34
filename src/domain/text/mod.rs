//! Text rules of the contract (section 4.2): input is parsed at the boundary, so that wrong values cannot
//! exist inside.

mod account;
mod file_name;
mod message;
mod names;

pub use account::{
    DisplayName, DisplayNameError, Email, EmailError, Login, LoginError, Password, PasswordError,
    is_reserved_login,
};
pub use file_name::{file_name, file_name_within};
pub use message::{Body, BodyError, EmojiError, StatusError, custom_status, emoji_shortcode};
pub use names::{
    DescriptionError, IdempotencyKey, IdempotencyKeyError, RoleNameError, RoomName, RoomNameError,
    description, role_name,
};

use icu_properties::CodePointSetData;
use icu_properties::props::DefaultIgnorableCodePoint;
use unicode_normalization::UnicodeNormalization as _;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

/// Whether the character is visible: not white space, a control or a format character.
fn is_visible(c: char) -> bool {
    !c.is_whitespace()
        && !is_ignorable(c)
        && !matches!(
            c.general_category(),
            GeneralCategory::Control
                | GeneralCategory::Format
                | GeneralCategory::LineSeparator
                | GeneralCategory::ParagraphSeparator
                | GeneralCategory::SpaceSeparator
        )
}

/// Whether a character is invisible by itself: zero-width characters, joiners, variation selectors, characters
/// that change the text direction, fillers (Unicode's `Default_Ignorable_Code_Point`), format characters, unassigned
/// code points, and blanks that are classified as letters, marks or symbols.
fn is_ignorable(c: char) -> bool {
    // Blanks of Braille, Khitan and musical notation, and the object replacement character.
    matches!(c, '\u{2800}' | '\u{16fe4}' | '\u{1d159}' | '\u{fffc}')
        || matches!(c.general_category(), GeneralCategory::Format | GeneralCategory::Unassigned)
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// A text of any origin as one line of at most so many bytes: white space and what is not visible becomes one space, and
/// what is cut off an ellipsis.
#[must_use]
pub fn one_line(text: &str, max_bytes: usize) -> String {
    const ELLIPSIS: &str = "…";
    // Enough of it that the rest cannot matter: a character of the result has at least one of the text.
    let visible: String = text
        .chars()
        .take(max_bytes.saturating_mul(4))
        .map(|c| if is_visible(c) { c } else { ' ' })
        .collect();
    let mut line = visible.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > max_bytes {
        let end = line.floor_char_boundary(max_bytes.saturating_sub(ELLIPSIS.len()));
        line.truncate(end);
        line.push_str(ELLIPSIS);
    }
    line
}

/// The form in which names are compared: NFKC, full case folding, NFKC again, without invisible characters and with one
/// space in place of several.
fn folded(text: &str) -> String {
    let compatible: String = text.nfkc().filter(|c| !is_ignorable(*c)).collect();
    let folded = caseless::default_case_fold_str(&compatible);
    let folded: String = folded.nfkc().filter(|c| !is_ignorable(*c)).collect();
    folded.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A name as shown: NFC, trimmed, without invisible characters. Joiners and variation selectors are kept after
/// non-ASCII characters: some scripts and many emoji need them.
fn shown(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for c in text.nfc() {
        let joins = matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}');
        let carries = |before: char| {
            !before.is_ascii()
                && !before.is_whitespace()
                && !matches!(before, '\u{200c}' | '\u{200d}')
        };
        if !is_ignorable(c) || (joins && kept.chars().next_back().is_some_and(carries)) {
            kept.push(c);
        }
    }
    kept.trim().nfc().collect()
}
