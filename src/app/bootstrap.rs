//! Bootstrap data of a test build: `[[bootstrap.users]]` and `[bootstrap.server]`.

use crate::config::Settings;
use crate::service::{BootstrapError, BootstrapServer, NewUser, Service};

/// Fills a server without users as configured, and says that this is a test build.
///
/// # Errors
/// [`BootstrapError`]: a test that runs on half of its data would fail elsewhere, less clearly.
pub(super) async fn fill(settings: &Settings, service: &Service) -> Result<(), BootstrapError> {
    log::warn!("this is a test build (feature test-support): never let anybody rely on it");
    let bootstrap = &settings.bootstrap;
    let passwords: Vec<String> = bootstrap
        .users
        .iter()
        .map(|user| user.password.as_ref().map_or_else(String::new, crate::crypto::Secret::to_text))
        .collect();
    let users: Vec<NewUser<'_>> = bootstrap
        .users
        .iter()
        .zip(&passwords)
        .map(|(user, password)| NewUser {
            login: &user.login,
            display_name: user.display_name.as_deref(),
            email: user.email.as_deref(),
            role: user.server_role.as_deref(),
            password,
        })
        .collect();
    let server = bootstrap
        .server
        .as_ref()
        .map(|(name, rooms)| BootstrapServer { name: name.as_deref(), rooms });
    service.test_support().bootstrap(&users, server).await
}
