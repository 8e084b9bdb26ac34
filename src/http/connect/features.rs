//! Responses about features that this server lacks, so that clients hide them or show them as empty.
//!
//! For most methods `unimplemented` is enough. Every client calls the ones here, repeatedly or for a page of their
//! own: it would retry for ever, or show a page that does not work.

use crate::contract::Code;
use crate::contract::api;
use crate::contract::rpc::message_search_service::{GetStatus, SearchMessages};
use crate::contract::rpc::notification_service::ListNotificationOccurrences;
use crate::contract::rpc::room_service::ListPinnedMessages;
use crate::contract::rpc::thread_service::ListFollowedThreads;

use super::super::error::HttpError;
use super::{CallKind, MethodTable};

pub(super) fn register(table: &mut MethodTable) {
    table.add(GetStatus, CallKind::Read, |caller, _request| async move {
        caller.session()?;
        let state = api::MessageSearchState::Disabled.into();
        Ok(api::GetStatusResponse { state, ..api::GetStatusResponse::default() })
    });
    table.add(SearchMessages, CallKind::Read, |caller, _request| async move {
        caller.session()?;
        Err(HttpError::new(Code::FailedPrecondition, "search is off"))
    });
    table.add(ListPinnedMessages, CallKind::Read, |caller, request| async move {
        caller.state.service.rooms().check_pins(caller.session()?, &request.room_id)?;
        let page = Some(api::PageInfo::default());
        Ok(api::ListPinnedMessagesResponse { page, ..api::ListPinnedMessagesResponse::default() })
    });
    table.add(ListNotificationOccurrences, CallKind::Read, |caller, _request| async move {
        caller.session()?;
        let page = Some(api::PageInfo::default());
        let none = api::ListNotificationOccurrencesResponse::default();
        Ok(api::ListNotificationOccurrencesResponse { page, ..none })
    });
    table.add(ListFollowedThreads, CallKind::Read, |caller, _request| async move {
        caller.session()?;
        let page = Some(api::PageInfo::default());
        Ok(api::ListFollowedThreadsResponse { page, ..api::ListFollowedThreadsResponse::default() })
    });
}
