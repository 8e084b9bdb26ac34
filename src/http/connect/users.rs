//! `UserService`: the directory of users.

use crate::contract::api;
use crate::contract::api::get_user_request::Target;
use crate::contract::rpc::user_service::{BatchGetUsers, GetUser, ListUsers};

use super::super::error::HttpError;
use super::{CallKind, MethodTable};
use crate::present;

pub(super) fn register(table: &mut MethodTable) {
    table.add(ListUsers, CallKind::Read, |caller, request| async move {
        let page = present::page_request(request.page);
        let page = caller.state.service.users().list(caller.session()?, &request.search, page);
        let origin = caller.origin();
        Ok(api::ListUsersResponse {
            page: Some(present::page_info(&page)),
            users: page.items.into_iter().map(|one| present::member(&origin, one)).collect(),
        })
    });
    table.add(GetUser, CallKind::Read, |caller, request| async move {
        let service = &caller.state.service;
        let session = caller.session()?;
        let user = match request.target {
            Some(Target::UserId(id)) => service.users().get(session, &id)?,
            Some(Target::Login(login)) => service.users().by_login(session, &login)?,
            None => return Err(HttpError::invalid("user_id or login is required")),
        };
        Ok(api::GetUserResponse { user: Some(present::member(&caller.origin(), user)) })
    });
    table.add(BatchGetUsers, CallKind::Read, |caller, request| async move {
        let users = caller.state.service.users().batch(caller.session()?, &request.user_ids);
        let origin = caller.origin();
        let users = users.into_iter().map(|one| present::member(&origin, one)).collect();
        Ok(api::BatchGetUsersResponse { users })
    });
}
