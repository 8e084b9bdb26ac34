//! What one viewer may see, as operations, and the operations of each change (contract, behaviour 3).

use std::collections::HashMap;

use super::change::ChangeKind;
use super::client_state::ClientState;
use crate::contract::realtime::realtime_projection_operation::Operation;
use crate::domain::{EventId, GroupId, RoomId, UserId};
use crate::limits::SNAPSHOT_ROWS;
use crate::present::operations::ProjectionOperation;
use crate::present::{self, Addresses, operations};
use crate::service::{
    PagePosition, ReadError, RoomWithState, Service, Session, ShownRoom, StoreError,
};

/// The store could not be read. Nothing may be skipped, so the connection closes.
#[derive(Debug)]
pub(super) struct ProjectionError;

impl From<StoreError> for ProjectionError {
    fn from(error: StoreError) -> Self {
        log::warn!(error:err = error; "cannot read the store for a change; the client must resume");
        Self
    }
}

impl From<crate::storage::StorageError> for ProjectionError {
    fn from(error: crate::storage::StorageError) -> Self {
        StoreError::from(error).into()
    }
}

/// `None` if the viewer may not see it.
fn if_allowed<T>(read: Result<T, ReadError>) -> Result<Option<T>, ProjectionError> {
    match read {
        Ok(seen) => Ok(Some(seen)),
        Err(ReadError::Store(error)) => Err(error.into()),
        Err(_) => Ok(None),
    }
}

/// What one viewer may see, read at the time of sending. The letters in the comments are the contract's names of
/// operations.
pub(super) struct ViewerProjection<'a> {
    pub(super) service: &'a Service,
    pub(super) session: &'a Session,
    pub(super) origin: &'a str,
    pub(super) client: &'a ClientState,
}

impl ViewerProjection<'_> {
    pub(super) fn is_member(&self, room: RoomId) -> bool {
        self.service.directory().is_member(self.session, room)
    }

    fn addresses(&self) -> Addresses<'_> {
        let tickets = self.service.assets().tickets(self.session.user);
        Addresses { origin: self.origin, tickets }
    }

    pub(super) fn server(&self) -> ProjectionOperation {
        let profile = self.service.server().profile();
        Operation::ServerUpsert(present::profile(self.origin, &profile)).into()
    }

    pub(super) fn server_state(&self) -> ProjectionOperation {
        let runtime = self.service.server().limits(self.session);
        operations::server_state(self.service.server().motd(self.session), &runtime)
    }

    pub(super) async fn viewer(&self) -> Result<Vec<ProjectionOperation>, ProjectionError> {
        let viewer = if_allowed(self.service.users().viewer(self.session).await)?;
        let upsert = |viewer| Operation::ViewerUpsert(present::viewer(self.origin, viewer)).into();
        Ok(viewer.map(upsert).into_iter().collect())
    }

    /// A user as the directory shows it, or its removal if the account is erased.
    pub(super) fn user(&self, id: &UserId) -> ProjectionOperation {
        match self.service.users().entry(self.session, id) {
            Some(entry) => Operation::UserUpsert(present::member(self.origin, entry)).into(),
            None => operations::user_removed(id),
        }
    }

    /// A room that is listed for the viewer; `None` for any other. Members only if the client retains the room.
    pub(super) async fn room(&self, id: RoomId) -> Result<Option<ShownRoom>, ProjectionError> {
        Ok(self.service.directory().shown_room(self.session, id, self.client.retains(id)).await?)
    }

    /// The same without members, except for direct messages.
    pub(super) async fn room_without_members(
        &self,
        id: RoomId,
    ) -> Result<Option<ShownRoom>, ProjectionError> {
        Ok(self.service.directory().shown_room(self.session, id, false).await?)
    }

    /// RV of a listed room, or RU if the room was not sent to the client yet.
    pub(super) async fn viewer_state(
        &self,
        id: RoomId,
    ) -> Result<Option<ProjectionOperation>, ProjectionError> {
        match self.room_without_members(id).await? {
            Some(seen) => self.viewer_state_of(seen).await,
            None => Ok(None),
        }
    }

    /// The same for a room that is read already.
    pub(super) async fn viewer_state_of(
        &self,
        seen: ShownRoom,
    ) -> Result<Option<ProjectionOperation>, ProjectionError> {
        if self.client.is_complete && !self.client.knows(seen.id()) {
            return Ok(self.room(seen.id()).await?.map(operations::room_upsert));
        }
        Ok(Some(operations::viewer_state_replace(seen)))
    }

    /// TL of a room in which the viewer is a member; `None` for any other.
    pub(super) async fn timeline(
        &self,
        id: RoomId,
    ) -> Result<Option<ProjectionOperation>, ProjectionError> {
        let read = self.service.timeline().page(
            self.session,
            id.as_str(),
            PagePosition::Newest,
            SNAPSHOT_ROWS,
        );
        let Some(mut page) = if_allowed(read.await)? else { return Ok(None) };
        // A row that was added while the page was read is sent after it as a change of its own.
        page.has_newer = false;
        let cursor = |row: &crate::service::RowView| {
            (row.id.to_string(), self.service.timeline().row_cursor(self.session, id, &row.id))
        };
        let event_cursors = page.rows.iter().map(cursor).collect();
        Ok(Some(operations::timeline_replace(self.addresses(), id, page, event_cursors)))
    }

    /// RU and TL of a room in which the viewer is a member; empty for any other.
    pub(super) async fn whole_room(
        &self,
        id: RoomId,
    ) -> Result<Vec<ProjectionOperation>, ProjectionError> {
        let Some(joined) = self.service.directory().joined_room(self.session, id).await? else {
            return Ok(Vec::new());
        };
        let Some(timeline) = self.timeline(id).await? else { return Ok(Vec::new()) };
        Ok(vec![operations::room_upsert(joined), timeline])
    }

    /// TU of a row, if the client has the room's rows. Otherwise it would take this row for the whole timeline.
    pub(super) async fn row_if_loaded(
        &self,
        room: RoomId,
        id: EventId,
    ) -> Result<Vec<ProjectionOperation>, ProjectionError> {
        if !self.client.has_rows(room) {
            return Ok(Vec::new());
        }
        self.row(room, id).await
    }

    /// TU of a row, for a client that has the room's rows or is sent them in the same event. Empty for rooms not
    /// joined and for rows that are not shown.
    pub(super) async fn row(
        &self,
        room: RoomId,
        id: EventId,
    ) -> Result<Vec<ProjectionOperation>, ProjectionError> {
        let read = self.service.timeline().row(self.session, room, id).await;
        let shown = if_allowed(read)?.flatten();
        let upsert = shown.map(|shown| operations::row_upsert(self.addresses(), room, shown));
        Ok(upsert.into_iter().collect())
    }

    /// GR.
    pub(super) async fn groups(&self) -> Result<ProjectionOperation, ProjectionError> {
        self.groups_from(HashMap::new()).await
    }

    /// GR made from rooms that were just sent. Changes since then follow as changes of their own.
    pub(super) async fn groups_from(
        &self,
        sent: HashMap<RoomId, RoomWithState>,
    ) -> Result<ProjectionOperation, ProjectionError> {
        let groups =
            if_allowed(self.service.directory().list_groups_from(self.session, sent).await)?;
        Ok(operations::groups_replace(groups.unwrap_or_default()))
    }

    pub(super) fn presences(&self) -> ProjectionOperation {
        let users = self.users().into_iter();
        operations::presences(users.map(|id| (id, self.service.presences().status(&id))))
    }

    /// All users, oldest account first.
    pub(super) fn users(&self) -> Vec<UserId> {
        self.service.users().ids(self.session)
    }

    /// The end of every catch-up (contract 8.3, number 3).
    pub(super) async fn reconciliation(&self) -> Result<Vec<ProjectionOperation>, ProjectionError> {
        let mut operations = self.viewer().await?;
        operations.extend([operations::threads(), operations::notifications(), self.presences()]);
        Ok(operations)
    }

    /// RV of every listed room.
    pub(super) async fn room_states(&self) -> Result<Vec<ProjectionOperation>, ProjectionError> {
        let mut states = Vec::new();
        for id in self.service.directory().shown_rooms(self.session).await? {
            states.extend(self.viewer_state(id).await?);
        }
        Ok(states)
    }

    /// The operations of a change for the viewer as of now; empty if the viewer may not see it.
    pub(super) async fn operations(
        &self,
        kind: &ChangeKind,
    ) -> Result<Vec<ProjectionOperation>, ProjectionError> {
        match kind {
            ChangeKind::Posted { room, row } => self.posted(*room, *row).await,
            ChangeKind::Replied { room, row, echo } => self.replied(*room, *row, *echo).await,
            ChangeKind::RowChanged { room, row } | ChangeKind::RowAdded { room, row } => {
                self.row_if_loaded(*room, *row).await
            }
            ChangeKind::Joined { room, user, row } => self.joined(*room, *user, *row).await,
            ChangeKind::Left { room, user, row } => self.left(*room, *user, *row).await,
            ChangeKind::Room { room, rule_changed } => {
                self.room_changed(*room, *rule_changed).await
            }
            ChangeKind::Membership { room, user, announced } => {
                self.membership(*room, *user, *announced).await
            }
            ChangeKind::Group { group } => self.group_changed(*group).await,
            ChangeKind::User { user, is_new } => self.user_changed(*user, *is_new).await,
            ChangeKind::Account => self.viewer().await,
            ChangeKind::Server { profile, state } => {
                let profile = profile.then(|| self.server());
                Ok(profile.into_iter().chain(state.then(|| self.server_state())).collect())
            }
            ChangeKind::MarkerMoved { target } => self.marker_moved(target).await,
            ChangeKind::Refresh => {
                let mut operations = self.room_states().await?;
                operations.extend(self.reconciliation().await?);
                Ok(operations)
            }
            ChangeKind::Rights => self.universal_rooms().await,
            // Sent in other frames, or by closing the connection.
            ChangeKind::Typing { .. } | ChangeKind::Presence { .. } | ChangeKind::Session => {
                Ok(Vec::new())
            }
        }
    }

    async fn posted(
        &self,
        room: RoomId,
        row: EventId,
    ) -> Result<Vec<ProjectionOperation>, ProjectionError> {
        if !self.is_member(room) {
            return Ok(Vec::new());
        }
        let Some(shown) = self.room_without_members(room).await? else { return Ok(Vec::new()) };
        let mut operations = Vec::new();
        if shown.is_direct() {
            operations.extend([
                operations::room_upsert(shown.clone()),
                operations::viewer_state_replace(shown),
            ]);
        } else {
            operations.extend(self.viewer_state_of(shown).await?);
        }
        operations.push(operations::activity(room));
        operations.extend(self.row_if_loaded(room, row).await?);
        Ok(operations)
    }

    async fn replied(
        &self,
        room: RoomId,
        row: EventId,
        echo: Option<EventId>,
    ) -> Result<Vec<ProjectionOperation>, ProjectionError> {
        if !self.is_member(room) {
            return Ok(Vec::new());
        }
        let Some(state) = self.viewer_state(room).await? else { return Ok(Vec::new()) };
        let mut operations = vec![state];
        operations.extend(self.row_if_loaded(room, row).await?);
        if let Some(echo) = echo {
            operations.extend(self.row_if_loaded(room, echo).await?);
            operations.push(operations::activity(room));
        }
        Ok(operations)
    }

    async fn joined(
        &self,
        room: RoomId,
        user: UserId,
        row: EventId,
    ) -> Result<Vec<ProjectionOperation>, ProjectionError> {
        if !self.is_member(room) {
            return Ok(Vec::new());
        }
        let Some(shown) = self.room(room).await? else { return Ok(Vec::new()) };
        let mut operations = vec![operations::room_upsert(shown)];
        if user != self.session.user {
            operations.extend(self.row_if_loaded(room, row).await?);
            return Ok(operations);
        }
        if self.client.retains(room) {
            operations.extend(self.timeline(room).await?);
        }
        operations.extend([operations::calls(), operations::notifications(), self.groups().await?]);
        if self.client.retains(room) {
            operations.extend(self.row(room, row).await?);
        }
        Ok(operations)
    }

    async fn left(
        &self,
        room: RoomId,
        user: UserId,
        row: EventId,
    ) -> Result<Vec<ProjectionOperation>, ProjectionError> {
        let is_member = self.is_member(room);
        if user == self.session.user && !is_member {
            // The change of STATE may have been sent before the row.
            let was_member = self.client.room(room).is_some_and(|sent| sent.is_member);
            return if self.client.is_complete && !was_member {
                Ok(Vec::new())
            } else {
                self.membership_lost(room).await
            };
        }
        if !is_member {
            return Ok(Vec::new());
        }
        // If the member is back already, the row of its joining follows.
        let Some(shown) = self.room(room).await? else { return Ok(Vec::new()) };
        let mut operations = vec![operations::room_upsert(shown)];
        operations.extend(self.row_if_loaded(room, row).await?);
        Ok(operations)
    }

    /// The viewer has lost its membership.
    async fn membership_lost(
        &self,
        room: RoomId,
    ) -> Result<Vec<ProjectionOperation>, ProjectionError> {
        let mut operations = Vec::new();
        match self.room(room).await? {
            Some(shown) => {
                operations.push(operations::room_upsert(shown));
                if self.client.retains(room) {
                    operations.push(operations::empty_timeline(room));
                }
            }
            None => operations.push(operations::room_removed(room)),
        }
        operations.extend([
            operations::calls(),
            operations::notifications(),
            operations::threads(),
        ]);
        operations.extend(self.viewer().await?);
        operations.push(self.groups().await?);
        Ok(operations)
    }

    /// Brings the client from the room as it was last sent to the room as it is now. `rule_changed`: send the rows
    /// again in any case.
    async fn room_changed(
        &self,
        room: RoomId,
        rule_changed: bool,
    ) -> Result<Vec<ProjectionOperation>, ProjectionError> {
        let sent = self.client.room(room);
        let was_member = sent.is_some_and(|sent| sent.is_member);
        let Some(shown) = self.room(room).await? else {
            // Nothing is sent of a room that the viewer never saw.
            return if sent.is_some() { self.membership_lost(room).await } else { Ok(Vec::new()) };
        };
        let is_member = shown.is_member();
        if was_member && !is_member {
            return self.membership_lost(room).await;
        }
        let mut operations = vec![operations::room_upsert(shown)];
        let becomes_member = is_member && !was_member;
        if (becomes_member || rule_changed) && self.client.retains(room) {
            operations.push(
                self.timeline(room).await?.unwrap_or_else(|| operations::empty_timeline(room)),
            );
        }
        if sent.is_none() || becomes_member || rule_changed {
            operations.extend([operations::calls(), operations::notifications()]);
        }
        operations.push(self.groups().await?);
        Ok(operations)
    }

    /// The same, but empty if the client has the room as it is now.
    async fn room_if_changed(
        &self,
        room: RoomId,
    ) -> Result<Vec<ProjectionOperation>, ProjectionError> {
        let sent = self.client.room(room);
        match self.room(room).await? {
            Some(shown) if self.client.has_seen(&shown) => Ok(Vec::new()),
            // Other members have joined or left.
            Some(shown) if sent.is_some_and(|one| one.is_member == shown.is_member()) => {
                Ok(vec![operations::room_upsert(shown)])
            }
            _ => self.room_changed(room, false).await,
        }
    }

    /// A membership changed in STATE. Most such changes are sent with the row that follows. This handles those
    /// without a row.
    async fn membership(
        &self,
        room: RoomId,
        user: UserId,
        announced: bool,
    ) -> Result<Vec<ProjectionOperation>, ProjectionError> {
        if user != self.session.user {
            let concerns = announced && self.client.retains(room) && self.is_member(room);
            return if concerns { self.room_if_changed(room).await } else { Ok(Vec::new()) };
        }
        if self.client.is_complete {
            // A lost membership is sent at once. A new one is sent with its row.
            let concerns = announced || !self.is_member(room);
            return if concerns { self.room_if_changed(room).await } else { Ok(Vec::new()) };
        }
        // During a replay it is unknown whether the client has the room, so it is sent as a change, even if the
        // row is still to come.
        if self.is_member(room) {
            self.room_changed(room, true).await
        } else {
            self.membership_lost(room).await
        }
    }

    /// A group was created, removed or changed, and its rooms with it.
    async fn group_changed(
        &self,
        group: GroupId,
    ) -> Result<Vec<ProjectionOperation>, ProjectionError> {
        let mut operations = vec![self.groups().await?];
        for room in self.service.directory().rooms_in_group(group) {
            operations.extend(self.room_if_changed(room).await?);
        }
        Ok(operations)
    }

    /// The permissions of others changed. That may change who is a member of universal rooms.
    async fn universal_rooms(&self) -> Result<Vec<ProjectionOperation>, ProjectionError> {
        let mut operations = Vec::new();
        for room in self.client.retained_rooms() {
            if let Some(shown) = self.room(room).await?
                && shown.with_state.room.universal
                && !self.client.has_seen(&shown)
            {
                operations.push(operations::room_upsert(shown));
            }
        }
        Ok(operations)
    }

    async fn user_changed(
        &self,
        user: UserId,
        is_new: bool,
    ) -> Result<Vec<ProjectionOperation>, ProjectionError> {
        let upsert = self.user(&user);
        let erased = matches!(upsert.operation, Operation::UserRemove(_));
        let mut operations = vec![upsert];
        if user == self.session.user {
            operations.extend(self.viewer().await?);
        }
        if !is_new && !erased {
            return Ok(operations);
        }
        for room in self.client.retained_rooms() {
            if !self.is_member(room) {
                continue;
            }
            let Some(shown) = self.room(room).await? else { continue };
            if erased {
                operations.extend(self.timeline(room).await?);
            } else if shown.with_state.room.universal {
                operations.push(operations::room_upsert(shown));
            }
        }
        Ok(operations)
    }

    async fn marker_moved(
        &self,
        target: &str,
    ) -> Result<Vec<ProjectionOperation>, ProjectionError> {
        let Ok(room) = RoomId::try_from(target) else { return Ok(Vec::new()) };
        let Some(state) = self.viewer_state(room).await? else { return Ok(Vec::new()) };
        let mut operations = vec![state, operations::notifications()];
        operations.extend(self.viewer().await?);
        Ok(operations)
    }
}
