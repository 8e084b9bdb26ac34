//! Accounts of a test build, from `[[bootstrap.users]]`.

use crate::config::Settings;
use crate::service::{NewUser, PageRequest, Service};

/// Creates the configured accounts in a server without users, and says that this is a test build.
pub(super) async fn fill(settings: &Settings, service: &Service) {
    log::warn!("this is a test build (feature test-support): never let anybody rely on it");
    let any = service.list_accounts("", PageRequest { limit: 1, offset: 0 }).await;
    if any.total > 0 {
        return;
    }
    for user in &settings.bootstrap.users {
        let password = user.password.as_ref().map(|secret| secret.expose().to_vec());
        let password = String::from_utf8(password.unwrap_or_default()).unwrap_or_default();
        let new = NewUser {
            login: &user.login,
            display_name: user.display_name.as_deref(),
            email: user.email.as_deref(),
            role: user.server_role.as_deref(),
            password: &password,
        };
        if let Err(error) = service.create_user(new).await {
            log::error!(error:err = error; "a bootstrap user cannot be created");
        }
    }
}
