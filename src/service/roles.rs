//! Roles as everybody may read them.

use super::users::distinct;
use super::{ReadError, RoleView, Session};
use crate::domain::Role;
use crate::storage::Storage;

/// The roles of the server.
#[derive(Clone, Copy)]
pub struct Roles<'a> {
    pub(super) storage: &'a Storage,
}

impl Roles<'_> {
    /// All roles by ascending position, then name.
    #[must_use]
    pub fn list(&self, _session: &Session) -> Vec<RoleView> {
        let mut roles: Vec<RoleView> = self
            .storage
            .state()
            .read(|tables| tables.roles.values().map(|role| role_view(role)).collect());
        roles.sort_by(|a, b| (a.position, &a.name).cmp(&(b.position, &b.name)));
        roles
    }

    /// One role.
    ///
    /// # Errors
    /// [`ReadError::NotFound`].
    pub fn get(&self, _session: &Session, name: &str) -> Result<RoleView, ReadError> {
        let found = self.storage.state().read(|tables| tables.roles.get(name).cloned());
        found.map(|role| role_view(&role)).ok_or(ReadError::NotFound { what: "role" })
    }

    /// Roles by name in order of first appearance; unknown ones are left out.
    #[must_use]
    pub fn batch(&self, _session: &Session, names: &[String]) -> Vec<RoleView> {
        self.storage.state().read(|tables| {
            distinct(names)
                .filter_map(|name| tables.roles.get(name))
                .map(|role| role_view(role))
                .collect()
        })
    }
}

fn role_view(role: &Role) -> RoleView {
    RoleView {
        name: role.name.clone(),
        display_name: role.display_name.clone(),
        description: role.description.clone(),
        is_system: role.system,
        position: role.position,
        pingable: role.pingable,
    }
}
