//! `RoleService`: the roles of the server.

use crate::contract::api;
use crate::contract::rpc::role_service::{BatchGetRoles, GetRole, ListRoles};

use super::{CallKind, MethodTable};
use crate::present;

pub(super) fn register(table: &mut MethodTable) {
    table.add(ListRoles, CallKind::Read, |caller, _request| async move {
        let roles = caller.state.service.roles().list(caller.session()?);
        Ok(api::ListRolesResponse { roles: roles.into_iter().map(present::role).collect() })
    });
    table.add(GetRole, CallKind::Read, |caller, request| async move {
        let role = caller.state.service.roles().get(caller.session()?, &request.name)?;
        Ok(api::GetRoleResponse { role: Some(present::role(role)) })
    });
    table.add(BatchGetRoles, CallKind::Read, |caller, request| async move {
        let roles = caller.state.service.roles().batch(caller.session()?, &request.names);
        Ok(api::BatchGetRolesResponse { roles: roles.into_iter().map(present::role).collect() })
    });
}
