//! The numbers in the value rules: each one that `limits` states too equals the constant, and all others are listed
//! here, so that a new rule needs a decision which of the two it is.

use std::collections::BTreeSet;

use crate::contract::generated::BOUNDS;
use crate::contract::texts;
use crate::limits;

/// Rules with a constant: the rule, the fields as `Message.field` (`*` stands for any text), the constant.
const WITH_CONSTANT: &[(&str, &[&str], usize)] = &[
    ("max_len", &["*.description"], limits::DESCRIPTION_MAX_CHARS),
    ("max_len", &["CreateRoomRequest.name", "UpdateRoomRequest.name"], limits::ROOM_NAME_MAX_CHARS),
    (
        "max_len",
        &[
            "UpdateUserRequest.display_name",
            "UpdateProfileRequest.display_name",
            "CreateExternalIdentityAccountRequest.display_name",
            "*BotRequest.display_name",
        ],
        limits::DISPLAY_NAME_MAX_CHARS,
    ),
    ("min_len", &["*.login"], limits::LOGIN_MIN_CHARS),
    ("max_len", &["*.login"], limits::LOGIN_MAX_CHARS),
    ("min_len", &["*.password"], limits::PASSWORD_MIN_CHARS),
    ("max_len", &["*.password", "*.current_password"], limits::PASSWORD_MAX_CHARS),
    ("max_len", &["CustomUserStatus.emoji"], limits::STATUS_EMOJI_MAX_CHARS),
    ("max_len", &["CustomUserStatus.text"], limits::STATUS_TEXT_MAX_CHARS),
    // Code points, and so never less than the limit of bytes that `domain` checks.
    ("max_len", &["UpdateMessageRequest.body"], limits::BODY_MAX_BYTES),
    ("max_items", &["CreateMessageRequest.attachment_asset_ids"], limits::ATTACHMENTS_MAX),
    // Without the viewer.
    ("max_items", &["StartDMRequest.participant_ids"], limits::DM_PARTICIPANTS_MAX - 1),
    ("max_items", &["Batch*"], limits::BATCH_IDS_MAX),
    ("lte", &["PageRequest.limit"], limits::PAGE_LIMIT_MAX),
    ("lte", &["ImageTransformOptions.*"], limits::VARIANT_SIDE_MAX as usize),
];

/// Rules of which only the contract states the number.
const CONTRACT_ONLY: &[(&str, &[&str])] = &[
    ("items.max_bytes", &["CreateMessageRequest.attachment_asset_ids"]),
    (
        "max_len",
        &[
            "*RoleRequest.display_name",
            "*RoomGroupRequest.name",
            "*SidebarLinkRequest.label",
            "*SidebarLinkRequest.url",
            "*OAuthClient*Request.client_id",
            "UpdateServerConfigRequest.server_name",
            "UpdateServerConfigRequest.motd",
            "UpdateServerConfigRequest.welcome_message",
            "*MemberRequest.reason",
            "*.search",
            "FetchLinkPreviewRequest.url",
            "SubscribePushRequest.*",
            "UnsubscribePushRequest.*",
            "DeleteSubscriptionRequest.*",
        ],
    ),
    ("min_len", &["*.cleanup_token"]),
    ("max_bytes", &["SearchMessagesRequest.*"]),
    ("max_items", &["Reorder*", "UpdateBlockedUsernamesRequest.blocked_usernames"]),
    ("lte", &["SearchMessagesRequest.page_size", "UpdateRoomRequest.slow_mode_seconds"]),
];

/// Whether a field is one that the pattern describes.
fn matches(pattern: &str, field: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = field.strip_prefix(parts.next().unwrap()) else { return false };
    for part in parts {
        let Some((_, after)) = rest.rsplit_once(part) else { return false };
        rest = after;
    }
    rest.is_empty()
}

#[test]
fn numbers_of_the_rules_equal_the_constants() {
    let mut used = BTreeSet::new();
    // 0 and 1 only say that something is not empty or not negative.
    for (path, rule, bound) in BOUNDS.iter().filter(|(_, _, bound)| *bound > 1) {
        let (message, field) = path.rsplit_once('.').unwrap();
        let name = format!("{}.{field}", message.rsplit('.').next().unwrap());
        let mut find = |known: &str, patterns: &'static [&'static str]| {
            let found = patterns.iter().find(|pattern| known == *rule && matches(pattern, &name));
            used.extend(found.map(|pattern| (known.to_owned(), *pattern)));
            found.is_some()
        };
        let mut constants = Vec::new();
        for (known, patterns, constant) in WITH_CONSTANT {
            if find(known, patterns) {
                constants.push(*constant);
            }
        }
        let only_here = CONTRACT_ONLY.iter().filter(|(known, patterns)| find(known, patterns));
        match (constants.as_slice(), only_here.count()) {
            ([constant], 0) => {
                assert_eq!(usize::try_from(*bound), Ok(*constant), "{path}: {rule}");
            }
            ([], 1) => {}
            _ => panic!("{path}: {rule} must match one line of one of the two tables"),
        }
    }
    let lines = WITH_CONSTANT.iter().map(|(rule, patterns, _)| (rule, patterns));
    for (rule, patterns) in lines.chain(CONTRACT_ONLY.iter().map(|(rule, of)| (rule, of))) {
        for pattern in *patterns {
            assert!(used.contains(&((*rule).to_owned(), *pattern)), "no rule {rule} of {pattern}");
        }
    }
}

#[test]
fn fixed_texts_name_the_constants() {
    for (text, max) in [
        (texts::ROOM_NAME_TOO_LONG, limits::ROOM_NAME_MAX_CHARS),
        (texts::ROOM_DESCRIPTION_TOO_LONG, limits::DESCRIPTION_MAX_CHARS),
    ] {
        assert!(text.ends_with(&format!(" must be {max} characters or less")), "{text}");
    }
}
