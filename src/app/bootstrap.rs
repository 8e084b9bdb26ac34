//! Bootstrap data of a test build: `[[bootstrap.users]]` and `[bootstrap.server]`.

use crate::config::Settings;
use crate::service::{BootstrapError, BootstrapServer, NewUser, Service};

/// Creates the configured data in a server without users, and logs that this is a test build.
///
/// # Errors
/// [`BootstrapError`]: a test that runs with half of its data would fail later and less clearly.
pub(super) async fn fill(settings: &Settings, service: &Service) -> Result<(), BootstrapError> {
    log::warn!("this is a test build (feature test-support); do not use it in production");
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
