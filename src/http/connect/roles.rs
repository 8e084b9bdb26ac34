//! `RoleService`: the roles of the server.

use crate::contract::api;
use crate::contract::rpc::role_service::{BatchGetRoles, GetRole, ListRoles};

use super::{CallKind, Table};
use crate::present;

pub(super) fn register(table: &mut Table) {
    table.add(ListRoles, CallKind::Read, |caller, _request| async move {
        let roles = caller.state.service.list_roles(caller.session()?);
        Ok(api::ListRolesResponse { roles: roles.into_iter().map(present::role).collect() })
    });
    table.add(GetRole, CallKind::Read, |caller, request| async move {
        let role = caller.state.service.role(caller.session()?, &request.name)?;
        Ok(api::GetRoleResponse { role: Some(present::role(role)) })
    });
    table.add(BatchGetRoles, CallKind::Read, |caller, request| async move {
        let roles = caller.state.service.batch_roles(caller.session()?, &request.names);
        Ok(api::BatchGetRolesResponse { roles: roles.into_iter().map(present::role).collect() })
    });
}
