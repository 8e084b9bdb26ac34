//! `RoomDirectoryService`: which rooms and groups there are for the viewer.

use crate::contract::api::{self, RoomDirectoryScope};
use crate::contract::rpc::room_directory_service::{
    BatchGetRoomGroups, BatchGetRooms, GetRoom, GetRoomGroup, ListRoomGroups, ListRooms,
};
use crate::service::RoomScope;

use super::{CallKind, MethodTable};
use crate::present;

pub(super) fn register(table: &mut MethodTable) {
    table.add(ListRooms, CallKind::Read, |caller, request| async move {
        let scope = match request.scope() {
            RoomDirectoryScope::Unspecified | RoomDirectoryScope::All => RoomScope::All,
            RoomDirectoryScope::Channels => RoomScope::Channels,
            RoomDirectoryScope::Dms => RoomScope::Direct,
        };
        let rooms = caller.state.service.directory().list_rooms(caller.session()?, scope).await?;
        let rooms = rooms.into_iter().map(present::room_with_state).collect();
        Ok(api::ListRoomsResponse { rooms })
    });
    table.add(GetRoom, CallKind::Read, |caller, request| async move {
        let room =
            caller.state.service.directory().room(caller.session()?, &request.room_id).await?;
        Ok(api::GetRoomResponse { room: Some(present::room_with_state(room)) })
    });
    table.add(BatchGetRooms, CallKind::Read, |caller, request| async move {
        let rooms = caller
            .state
            .service
            .directory()
            .batch_rooms(caller.session()?, &request.room_ids)
            .await?;
        let rooms = rooms.into_iter().map(present::room_with_state).collect();
        Ok(api::BatchGetRoomsResponse { rooms })
    });
    table.add(ListRoomGroups, CallKind::Read, |caller, _request| async move {
        let groups = caller.state.service.directory().list_groups(caller.session()?).await?;
        Ok(api::ListRoomGroupsResponse { groups: groups.into_iter().map(present::group).collect() })
    });
    table.add(GetRoomGroup, CallKind::Read, |caller, request| async move {
        let group =
            caller.state.service.directory().group(caller.session()?, &request.group_id).await?;
        Ok(api::GetRoomGroupResponse { group: Some(present::group(group)) })
    });
    table.add(BatchGetRoomGroups, CallKind::Read, |caller, request| async move {
        let ids = &request.group_ids;
        let groups = caller.state.service.directory().batch_groups(caller.session()?, ids).await?;
        let groups = groups.into_iter().map(present::group).collect();
        Ok(api::BatchGetRoomGroupsResponse { groups })
    });
}
