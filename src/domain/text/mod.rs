//! Text rules of the contract (section 4.2): parse at the door, so that inside wrong values cannot
//! exist.

mod account;
mod message;
mod names;

pub use account::{
    DisplayName, DisplayNameError, Email, EmailError, Login, LoginError, Password, PasswordError,
    is_reserved_login,
};
pub use message::{Body, BodyError, EmojiError, StatusError, custom_status, emoji_shortcode};
pub use names::{
    DescriptionError, IdempotencyKey, IdempotencyKeyError, RoleNameError, RoomName, RoomNameError,
    description, role_name,
};

use icu_properties::CodePointSetData;
use icu_properties::props::DefaultIgnorableCodePoint;
use unicode_normalization::UnicodeNormalization as _;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

/// Whether something is to be seen: not white space, a control or a format character.
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

/// Whether a character shows nothing by itself: zero-width characters, joiners, variation selectors, what
/// changes the direction of text, fillers (Unicode's `Default_Ignorable_Code_Point`), format characters, what is
/// no character, and blanks that are called letters, marks or symbols.
fn is_ignorable(c: char) -> bool {
    // Of Braille, Khitan and musical notes; and the place of an object.
    matches!(c, '\u{2800}' | '\u{16fe4}' | '\u{1d159}' | '\u{fffc}')
        || matches!(c.general_category(), GeneralCategory::Format | GeneralCategory::Unassigned)
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// The form in which names are compared: NFKC, full case folding, NFKC again, nothing that is not seen, and one
/// space where there are several.
fn folded(text: &str) -> String {
    let compatible: String = text.nfkc().filter(|c| !is_ignorable(*c)).collect();
    let folded = caseless::default_case_fold_str(&compatible);
    let folded: String = folded.nfkc().filter(|c| !is_ignorable(*c)).collect();
    folded.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A name as it is shown: NFC, trimmed, without what is not seen. Joiners and variation selectors stay behind
/// characters that are not ASCII: some scripts and many emoji are not written without them.
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
