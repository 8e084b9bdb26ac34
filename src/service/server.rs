//! What is known of the server as a whole.

use super::{Config, RuntimeView, ServerView, Session};
use crate::limits::EDIT_WINDOW;
use crate::storage::Storage;

/// The name of a server without one.
const DEFAULT_NAME: &str = "Chatto";

/// What is known of the server as a whole.
#[derive(Clone, Copy)]
pub struct Server<'a> {
    pub(super) storage: &'a Storage,
    pub(super) config: &'a Config,
}

impl Server<'_> {
    /// What anybody may know, without a credential.
    #[must_use]
    pub fn profile(&self) -> ServerView {
        let server = self.storage.state().read(|tables| std::sync::Arc::clone(&tables.server));
        let set = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        ServerView {
            name: set(&server.name).unwrap_or_else(|| DEFAULT_NAME.to_owned()),
            description: set(&server.description),
            welcome_message: set(&server.welcome_message),
            logo_key: server.logo_key.clone(),
            banner_key: server.banner_key.clone(),
            direct_login: self.config.direct_login,
            // Registration needs mail, which is not built: its pages stay hidden.
            direct_registration: false,
            invite_only: self.config.invite_only,
        }
    }

    /// Limits that clients show.
    #[must_use]
    pub fn limits(&self, _session: &Session) -> RuntimeView {
        RuntimeView {
            max_upload_bytes: self.config.max_upload_bytes,
            message_edit_window_seconds: u32::try_from(EDIT_WINDOW.as_secs()).unwrap_or(u32::MAX),
        }
    }

    /// The message of the day.
    #[must_use]
    pub fn motd(&self, _session: &Session) -> Option<String> {
        let motd = self.storage.state().read(|tables| tables.server.motd.clone());
        Some(motd).filter(|text| !text.is_empty())
    }
}
