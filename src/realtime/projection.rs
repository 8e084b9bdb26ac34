//! What one viewer sees, as operations: each carries the whole present state, never a difference.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::contract::api;
use crate::contract::realtime::{self as wire, realtime_projection_operation::Operation};
use crate::domain::{RoomId, UserId};
use crate::limits::SNAPSHOT_ROWS;
use crate::present;
use crate::service::{
    PagePosition, ReadError, RoomWithState, Service, Session, ShownRoom, ShownRow, StoreError,
};

/// The store could not be read: nothing may be skipped, so the connection ends.
#[derive(Debug)]
pub(super) struct ProjectionError;

impl From<StoreError> for ProjectionError {
    fn from(fault: StoreError) -> Self {
        log::warn!(error:err = fault; "a change cannot be assembled; the connection resumes");
        Self
    }
}

impl From<crate::storage::StorageError> for ProjectionError {
    fn from(error: crate::storage::StorageError) -> Self {
        StoreError::from(error).into()
    }
}

/// `None` for what the viewer may not see.
fn if_allowed<T>(read: Result<T, ReadError>) -> Result<Option<T>, ProjectionError> {
    match read {
        Ok(seen) => Ok(Some(seen)),
        Err(ReadError::Store(fault)) => Err(fault.into()),
        Err(_) => Ok(None),
    }
}

/// A viewer's eyes.
pub(super) struct ViewerProjection<'a> {
    pub(super) service: &'a Service,
    pub(super) session: &'a Session,
    pub(super) origin: &'a str,
    pub(super) retained: &'a HashSet<String>,
    /// Held rooms whose rows the client has.
    pub(super) loaded: &'a HashSet<String>,
    /// The rooms that the client was told of on this connection.
    pub(super) sent_rooms: &'a HashMap<RoomId, SentRoom>,
    /// Whether the client knows nothing but those.
    pub(super) is_complete: bool,
}

/// What a client was told of a room last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SentRoom {
    /// Whether the viewer is a member.
    pub(super) is_member: bool,
    /// A digest of the member list.
    pub(super) members: u64,
}

impl SentRoom {
    /// Of a room's state and member list as they are sent.
    pub(super) fn of(is_member: bool, members: &[String]) -> Self {
        let mut digest = DefaultHasher::new();
        members.hash(&mut digest);
        Self { is_member, members: digest.finish() }
    }

    fn of_shown(shown: &ShownRoom) -> Self {
        let members: Vec<String> = shown.members.iter().map(ToString::to_string).collect();
        Self::of(shown.is_member(), &members)
    }
}

impl ViewerProjection<'_> {
    pub(super) fn retains(&self, room: RoomId) -> bool {
        self.retained.contains(room.as_str())
    }

    pub(super) fn is_member(&self, room: RoomId) -> bool {
        self.service.directory().is_member(self.session, room)
    }

    pub(super) fn server(&self) -> Operation {
        Operation::ServerUpsert(present::profile(self.origin, &self.service.server().profile()))
    }

    pub(super) fn server_state(&self) -> Operation {
        Operation::ServerStateUpsert(wire::RealtimeProjectionServerState {
            motd: self.service.server().motd(self.session),
            runtime: Some(present::runtime(&self.service.server().limits(self.session))),
            pinned_message_change: None,
        })
    }

    pub(super) async fn viewer(&self) -> Result<Vec<Operation>, ProjectionError> {
        let viewer = if_allowed(self.service.users().viewer(self.session).await)?;
        let upsert = |viewer| Operation::ViewerUpsert(present::viewer(self.origin, viewer));
        Ok(viewer.map(upsert).into_iter().collect())
    }

    /// A user as the directory shows it; gone when erased.
    pub(super) fn user(&self, id: &UserId) -> Operation {
        match self.service.users().entry(self.session, id) {
            Some(entry) => Operation::UserUpsert(present::member(self.origin, entry)),
            None => {
                let user_id = id.to_string();
                Operation::UserRemove(wire::RealtimeProjectionUserRemove { user_id })
            }
        }
    }

    /// A room the viewer's connection shows; `None` for any other.
    pub(super) async fn room(&self, id: RoomId) -> Result<Option<ShownRoom>, ProjectionError> {
        Ok(Box::pin(self.service.directory().shown_room(self.session, id, self.retains(id)))
            .await?)
    }

    /// The same without members, which only direct messages have then.
    pub(super) async fn room_without_members(
        &self,
        id: RoomId,
    ) -> Result<Option<ShownRoom>, ProjectionError> {
        Ok(Box::pin(self.service.directory().shown_room(self.session, id, false)).await?)
    }

    /// RV of a room the viewer's connection shows; RU when the client was not told of the room yet.
    pub(super) async fn viewer_state(
        &self,
        id: RoomId,
    ) -> Result<Option<Operation>, ProjectionError> {
        match self.room_without_members(id).await? {
            Some(seen) => self.viewer_state_of(seen).await,
            None => Ok(None),
        }
    }

    /// The same of a room that was read already.
    pub(super) async fn viewer_state_of(
        &self,
        seen: ShownRoom,
    ) -> Result<Option<Operation>, ProjectionError> {
        if self.is_complete && !self.sent_rooms.contains_key(&seen.id()) {
            return Ok(self.room(seen.id()).await?.map(Self::room_upsert));
        }
        Ok(Some(Self::viewer_state_replace(seen)))
    }

    /// Whether the client was told of exactly this.
    pub(super) fn was_sent(&self, room: &ShownRoom) -> bool {
        let now = SentRoom::of_shown(room);
        self.sent_rooms.get(&room.id()).is_some_and(|sent| {
            // Of a room that is not held no members are told.
            sent.is_member == now.is_member
                && (!self.retains(room.id()) || sent.members == now.members)
        })
    }

    /// RU. Members are complete for direct messages and for what the connection holds.
    pub(super) fn room_upsert(shown: ShownRoom) -> Operation {
        Operation::RoomUpsert(wire::RealtimeProjectionRoom {
            has_message_history: shown.has_history,
            member_user_ids: shown.members.iter().map(ToString::to_string).collect(),
            room: Some(present::room_with_state(shown.with_state)),
        })
    }

    /// RV.
    pub(super) fn viewer_state_replace(shown: ShownRoom) -> Operation {
        Operation::RoomViewerStateReplace(wire::RealtimeProjectionRoomViewerStateReplace {
            room_id: shown.id().to_string(),
            viewer_state: Some(present::room_state(shown.with_state.state)),
        })
    }

    pub(super) fn room_removed(id: RoomId) -> Operation {
        Operation::RoomRemove(wire::RealtimeProjectionRoomRemove { room_id: id.to_string() })
    }

    /// RA.
    pub(super) fn activity(id: RoomId) -> Operation {
        Operation::RoomActivity(wire::RealtimeProjectionRoomActivity { room_id: id.to_string() })
    }

    /// TL of a room the viewer is a member of; `None` for any other.
    pub(super) async fn timeline(&self, id: RoomId) -> Result<Option<Operation>, ProjectionError> {
        let read = self.service.timeline().page(
            self.session,
            id.as_str(),
            PagePosition::Newest,
            SNAPSHOT_ROWS,
        );
        let Some(mut page) = if_allowed(Box::pin(read).await)? else { return Ok(None) };
        // A row that was added while the page was read comes behind it by itself.
        page.has_newer = false;
        let cursor = |row: &crate::service::RowView| {
            (row.id.to_string(), self.service.timeline().row_cursor(self.session, id, &row.id))
        };
        let event_cursors = page.rows.iter().map(cursor).collect();
        Ok(Some(Operation::RoomTimelineReplace(wire::RealtimeProjectionRoomTimelineReplace {
            room_id: id.to_string(),
            page: Some(present::timeline(self.origin, id.as_str(), page)),
            event_cursors,
        })))
    }

    /// RU and TL of a room the viewer is a member of; nothing for any other.
    pub(super) async fn whole_room(&self, id: RoomId) -> Result<Vec<Operation>, ProjectionError> {
        let Some(joined) = self.service.directory().joined_room(self.session, id).await? else {
            return Ok(Vec::new());
        };
        let Some(timeline) = self.timeline(id).await? else { return Ok(Vec::new()) };
        Ok(vec![Self::room_upsert(joined), timeline])
    }

    /// TL that wipes.
    pub(super) fn empty_timeline(id: RoomId) -> Operation {
        Operation::RoomTimelineReplace(wire::RealtimeProjectionRoomTimelineReplace {
            room_id: id.to_string(),
            page: Some(api::RoomTimelinePage::default()),
            event_cursors: std::collections::BTreeMap::new(),
        })
    }

    /// TU of a row; nothing where the client does not have the room's rows: one alone would pass for
    /// all of them.
    pub(super) async fn row_if_loaded(
        &self,
        room: RoomId,
        id: &str,
    ) -> Result<Vec<Operation>, ProjectionError> {
        if !self.loaded.contains(room.as_str()) {
            return Ok(Vec::new());
        }
        self.row(room, id).await
    }

    /// TU of a row whose room's rows the client has, or gets with it; nothing for rooms not joined
    /// and rows not shown.
    pub(super) async fn row(
        &self,
        room: RoomId,
        id: &str,
    ) -> Result<Vec<Operation>, ProjectionError> {
        let read = Box::pin(self.service.timeline().row(self.session, room, id)).await;
        let Some(ShownRow { row, users, cursor }) = if_allowed(read)?.flatten() else {
            return Ok(Vec::new());
        };
        let upsert = wire::RealtimeProjectionRoomTimelineEventUpsert {
            room_id: room.to_string(),
            event: Some(present::row(room.as_str(), row)),
            includes: Some(present::includes(self.origin, users)),
            event_cursor: cursor,
            ..wire::RealtimeProjectionRoomTimelineEventUpsert::default()
        };
        Ok(vec![Operation::RoomTimelineEventUpsert(upsert)])
    }

    /// GR.
    pub(super) async fn groups(&self) -> Result<Operation, ProjectionError> {
        self.groups_from(HashMap::new()).await
    }

    /// GR out of rooms that the client was just sent; it is told what changed since then as of any change.
    pub(super) async fn groups_from(
        &self,
        sent: HashMap<RoomId, RoomWithState>,
    ) -> Result<Operation, ProjectionError> {
        let groups =
            if_allowed(self.service.directory().list_groups_from(self.session, sent).await)?;
        let groups = groups.unwrap_or_default();
        Ok(Operation::RoomGroupsReplace(wire::RealtimeProjectionRoomGroupsReplace {
            groups: groups.into_iter().map(present::group).collect(),
        }))
    }

    /// NO. Notifications are not built: there are none.
    pub(super) fn notifications() -> Operation {
        let occurrences = api::ListNotificationOccurrencesResponse {
            page: Some(api::PageInfo::default()),
            ..api::ListNotificationOccurrencesResponse::default()
        };
        Operation::NotificationOccurrencesReplace(
            wire::RealtimeProjectionNotificationOccurrencesReplace {
                play_notification_sound: false,
                occurrences: Some(occurrences),
            },
        )
    }

    /// TV. Threads are not built: none is followed.
    pub(super) fn threads() -> Operation {
        Operation::ThreadViewerStatesReplace(
            wire::RealtimeProjectionThreadViewerStatesReplace::default(),
        )
    }

    /// AC. Calls are off.
    pub(super) fn calls() -> Operation {
        Operation::ActiveCallsReplace(wire::RealtimeProjectionActiveCallsReplace::default())
    }

    pub(super) fn presences(&self) -> Operation {
        let status = |id: UserId| {
            (id.to_string(), present::presence(self.service.presences().status(&id)).into())
        };
        Operation::PresencesReplace(wire::RealtimeProjectionPresencesReplace {
            statuses: self.service.users().ids(self.session).into_iter().map(status).collect(),
        })
    }

    /// Everybody.
    pub(super) fn users(&self) -> Vec<UserId> {
        self.service.users().ids(self.session)
    }

    /// What a connection that comes, or comes back, is told at the end (contract 8.3, number 3).
    pub(super) async fn reconciliation(&self) -> Result<Vec<Operation>, ProjectionError> {
        let mut operations = self.viewer().await?;
        operations.extend([Self::threads(), Self::notifications(), self.presences()]);
        Ok(operations)
    }

    /// RV of every room the connection shows.
    pub(super) async fn room_states(&self) -> Result<Vec<Operation>, ProjectionError> {
        let mut states = Vec::new();
        for id in self.service.directory().shown_rooms(self.session).await? {
            states.extend(self.viewer_state(id).await?);
        }
        Ok(states)
    }
}
