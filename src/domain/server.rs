//! The server's own settings and its roles.

use super::permission::Decision;

/// What administrators set for the whole server, and what the server notes of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerSettings {
    /// The name; empty: never set.
    pub name: String,
    pub description: String,
    /// Message of the day.
    pub motd: String,
    /// Shown before the log-in.
    pub welcome_message: String,
    /// The key of the logo's asset.
    pub logo_key: Option<String>,
    /// The key of the banner's asset.
    pub banner_key: Option<String>,
    /// Logins nobody may take; `None`: the default list counts.
    pub blocked_logins: Option<Vec<String>>,
    /// First boot is complete.
    pub defaults_written: bool,
    /// Of the last setup link, so that a newer one replaces it; empty: there was none.
    pub setup_token_hash: String,
    /// Delete markers of STATE up to this revision are gone.
    pub purged_upto: u64,
}

/// A role and what it decides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Role {
    /// Unique; lower case.
    pub name: String,
    /// Shown instead of the name.
    pub display_name: String,
    pub description: String,
    /// Ascending order of roles.
    pub position: i32,
    /// Whether a message may ping everybody who has it.
    pub pingable: bool,
    /// Made by the server; it cannot be deleted.
    pub system: bool,
    pub decisions: Vec<Decision>,
}
