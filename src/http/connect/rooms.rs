//! `RoomService`: rooms, their members, timelines and read markers.

use crate::contract::api::{self, get_room_events_request::Cursor};
use crate::contract::rpc::room_service::{
    BatchGetMembers, CreateRoom, GetMember, GetRoomEvents, GetRoomEventsAround, JoinRoom,
    LeaveRoom, ListMembers, ListRoomAttachments, MarkRoomAsRead, UpdateTypingIndicator,
};
use crate::service::{NewRoom, PagePosition};

use super::{CallKind, MethodTable};
use crate::present;

pub(super) fn register(table: &mut MethodTable) {
    rooms(table);
    members(table);
    files(table);
    timeline(table);
}

fn rooms(table: &mut MethodTable) {
    table.add(CreateRoom, CallKind::Write, |caller, request| async move {
        let new = NewRoom {
            name: &request.name,
            description: &request.description,
            group: &request.group_id,
            universal: request.universal,
        };
        let room = caller.state.service.rooms().create(caller.session()?, new).await?;
        Ok(api::CreateRoomResponse { room: Some(present::room(room)) })
    });
    table.add(JoinRoom, CallKind::Write, |caller, request| async move {
        let room = caller.state.service.rooms().join(caller.session()?, &request.room_id).await?;
        Ok(api::JoinRoomResponse { room: Some(present::room(room)) })
    });
    table.add(LeaveRoom, CallKind::Write, |caller, request| async move {
        let left = caller.state.service.rooms().leave(caller.session()?, &request.room_id).await?;
        Ok(api::LeaveRoomResponse { left })
    });
}

fn members(table: &mut MethodTable) {
    table.add(ListMembers, CallKind::Read, |caller, request| async move {
        let session = caller.session()?;
        let page = present::page_request(request.page);
        let service = &caller.state.service;
        let page = service.members().list(session, &request.room_id, &request.search, page)?;
        let origin = caller.origin();
        Ok(api::ListRoomMembersResponse {
            page: Some(present::page_info(&page)),
            members: page.items.into_iter().map(|one| present::member(&origin, one)).collect(),
        })
    });
    table.add(GetMember, CallKind::Read, |caller, request| async move {
        let service = &caller.state.service;
        let member =
            service.members().get(caller.session()?, &request.room_id, &request.user_id)?;
        Ok(api::GetRoomMemberResponse { member: Some(present::member(&caller.origin(), member)) })
    });
    table.add(BatchGetMembers, CallKind::Read, |caller, request| async move {
        let (session, service) = (caller.session()?, &caller.state.service);
        let members = service.members().batch(session, &request.room_id, &request.user_ids)?;
        let origin = caller.origin();
        let members = members.into_iter().map(|one| present::member(&origin, one)).collect();
        Ok(api::BatchGetRoomMembersResponse { members })
    });
}

fn files(table: &mut MethodTable) {
    table.add(ListRoomAttachments, CallKind::Read, |caller, request| async move {
        let (session, service) = (caller.session()?, &caller.state.service);
        let page = present::page_request(request.page);
        let page = service.room_files().list(session, &request.room_id, page).await?;
        let tickets = service.assets().tickets(session.user);
        let shown = |file| present::room_file(tickets, request.thumbnail, file);
        Ok(api::ListRoomAttachmentsResponse {
            page: Some(present::page_info(&page)),
            attachments: page.items.into_iter().map(shown).collect(),
        })
    });
}

fn timeline(table: &mut MethodTable) {
    table.add(GetRoomEvents, CallKind::Read, |caller, request| async move {
        let from = match &request.cursor {
            None => PagePosition::Newest,
            Some(Cursor::Before(cursor)) => PagePosition::Before(cursor),
            Some(Cursor::After(cursor)) => PagePosition::After(cursor),
        };
        let session = caller.session()?;
        let limit = limit(request.limit);
        let service = &caller.state.service;
        let page = service.timeline().page(session, &request.room_id, from, limit).await?;
        let page = present::timeline(caller.addresses(&caller.origin())?, &request.room_id, page);
        Ok(api::GetRoomEventsResponse { page: Some(page) })
    });
    table.add(GetRoomEventsAround, CallKind::Read, |caller, request| async move {
        let session = caller.session()?;
        let (room, event) = (&request.room_id, &request.event_id);
        let limit = limit(request.limit);
        let window = caller.state.service.timeline().window(session, room, event, limit).await?;
        Ok(api::GetRoomEventsAroundResponse {
            target_index: i32::try_from(window.target_index).unwrap_or(i32::MAX),
            page: Some(present::timeline(caller.addresses(&caller.origin())?, room, window.page)),
        })
    });
    table.add(UpdateTypingIndicator, CallKind::Read, |caller, request| async move {
        let (room, thread) = (&request.room_id, &request.thread_root_event_id);
        caller.state.service.typing().publish(caller.session()?, room, thread).await?;
        Ok(api::UpdateTypingIndicatorResponse { updated: true })
    });
    table.add(MarkRoomAsRead, CallKind::Write, |caller, request| async move {
        let session = caller.session()?;
        let (room, up_to) = (&request.room_id, &request.up_to_event_id);
        let marking = caller.state.service.markers().mark_room_read(session, room, up_to);
        let marked = marking.await?;
        Ok(api::MarkRoomAsReadResponse {
            last_read_at: marked.last_read_ms.map(present::time),
            previous_last_read_at: marked.previous_last_read_ms.map(present::time),
        })
    });
}

/// 0, negative and absent values mean the default.
fn limit(limit: i32) -> usize {
    usize::try_from(limit).unwrap_or_default()
}
