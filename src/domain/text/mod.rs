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
pub use names::{DescriptionError, RoleNameError, RoomName, RoomNameError, description, role_name};

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

/// Whether something is to be seen: not white space, a control or a format character.
fn is_visible(c: char) -> bool {
    !c.is_whitespace()
        && !matches!(
            c.general_category(),
            GeneralCategory::Control
                | GeneralCategory::Format
                | GeneralCategory::LineSeparator
                | GeneralCategory::ParagraphSeparator
                | GeneralCategory::SpaceSeparator
        )
}

/// The form in which names are compared: NFKC, full case folding, NFKC again.
fn folded(text: &str) -> String {
    use unicode_normalization::UnicodeNormalization as _;
    let compatible: String = text.nfkc().collect();
    caseless::default_case_fold_str(&compatible).nfkc().collect()
}
