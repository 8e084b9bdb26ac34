//! Accounts.

use super::UserId;
use super::permission::Decision;

/// An account, or the tombstone of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    /// As typed; unique without regard to case.
    pub login: String,
    /// Empty: the login is shown.
    pub display_name: String,
    /// Milliseconds since 1970, as all fields that end in `_ms`.
    pub created_ms: i64,
    /// PHC string, Argon2id without pepper; empty: no password.
    pub password_hash: String,
    /// Names of the assigned roles; "everyone" is implied.
    pub roles: Vec<String>,
    /// Verified and unverified addresses.
    pub emails: Vec<EmailAddress>,
    /// Raised to end all sessions of this user.
    pub session_generation: u64,
    /// Why the sessions of the generation before ended.
    pub session_end: Option<SessionEnd>,
    /// When the login was last changed; `None`: never.
    pub login_changed_ms: Option<i64>,
    pub settings: UserSettings,
    pub is_bot: bool,
    pub bot_owner: Option<UserId>,
    /// The permanent tombstone; everything but id and origin is then empty.
    pub deleted: bool,
    /// The data key for new bodies; empty: none was made yet.
    pub active_key_id: String,
    /// Decisions about this user itself.
    pub decisions: Vec<Decision>,
    /// The key of the avatar's asset.
    pub avatar_key: Option<String>,
    pub custom_status: CustomStatus,
    /// Hash of the setup or join token that made the account; empty: the operator made it.
    pub origin: String,
}

/// An address of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmailAddress {
    /// As typed.
    pub address: String,
    /// Only a verified address is unique and can be used to log in.
    pub verified: bool,
}

/// Why all sessions of a user ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the contract's word")]
pub enum SessionEnd {
    PasswordChanged,
    PasswordReset,
    IdentityDisconnected,
}

/// What a user has chosen for itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserSettings {
    /// IANA name of the time zone.
    pub timezone: Option<String>,
    /// How times are shown; `None`: never chosen.
    pub time_format: Option<TimeFormat>,
}

/// How times are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeFormat {
    /// As the client's language has it.
    Auto,
    TwelveHour,
    TwentyFourHour,
}

/// A status in the user's own words; all empty: none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CustomStatus {
    /// Shortcode of an emoji.
    pub emoji: String,
    /// Empty: there is no status.
    pub text: String,
    /// When it ends; `None`: never.
    pub expires_ms: Option<i64>,
}

impl User {
    /// An account of which only the id is known.
    #[must_use]
    pub fn new(id: UserId) -> Self {
        Self {
            id,
            login: String::new(),
            display_name: String::new(),
            created_ms: 0,
            password_hash: String::new(),
            roles: Vec::new(),
            emails: Vec::new(),
            session_generation: 0,
            session_end: None,
            login_changed_ms: None,
            settings: UserSettings::default(),
            is_bot: false,
            bot_owner: None,
            deleted: false,
            active_key_id: String::new(),
            decisions: Vec::new(),
            avatar_key: None,
            custom_status: CustomStatus::default(),
            origin: String::new(),
        }
    }

    /// Whether the role is assigned to it.
    #[must_use]
    pub fn has_role(&self, name: &str) -> bool {
        self.roles.iter().any(|role| role == name)
    }

    /// Assigns a role; one that is assigned already stays.
    pub fn add_role(&mut self, name: &str) {
        if !self.has_role(name) {
            self.roles.push(name.to_owned());
        }
    }

    /// Removes a role, if it is assigned.
    pub fn remove_role(&mut self, name: &str) {
        self.roles.retain(|role| role != name);
    }
}
