//! The operations of each change (contract, behaviour 3), for one viewer.

use super::change::ChangeKind;
use super::projection::{ProjectionError, ViewerProjection};
use crate::contract::realtime::realtime_projection_operation::Operation;
use crate::domain::{GroupId, RoomId, UserId};

impl ViewerProjection<'_> {
    /// What a change means for the viewer now; nothing when it may not see it.
    pub(super) async fn operations(
        &self,
        kind: &ChangeKind,
    ) -> Result<Vec<Operation>, ProjectionError> {
        match kind {
            ChangeKind::Posted { room, row } => Box::pin(self.posted(*room, row)).await,
            ChangeKind::Replied { room, row, echo } => {
                Box::pin(self.replied(*room, row, echo.as_deref())).await
            }
            ChangeKind::RowChanged { room, row } | ChangeKind::RowAdded { room, row } => {
                Box::pin(self.row_if_loaded(*room, row)).await
            }
            ChangeKind::Joined { room, user, row } => {
                Box::pin(self.joined(*room, *user, row)).await
            }
            ChangeKind::Left { room, user, row } => Box::pin(self.left(*room, *user, row)).await,
            ChangeKind::Room { room, rule_changed } => {
                Box::pin(self.room_changed(*room, *rule_changed)).await
            }
            ChangeKind::Membership { room, user, announced } => {
                Box::pin(self.membership(*room, *user, *announced)).await
            }
            ChangeKind::Group { group } => Box::pin(self.group_changed(*group)).await,
            ChangeKind::User { user, is_new } => Box::pin(self.user_changed(*user, *is_new)).await,
            ChangeKind::Account => self.viewer().await,
            ChangeKind::Server { profile, state } => {
                let profile = profile.then(|| self.server());
                Ok(profile.into_iter().chain(state.then(|| self.server_state())).collect())
            }
            ChangeKind::MarkerMoved { target } => Box::pin(self.marker_moved(target)).await,
            ChangeKind::Refresh => {
                let mut operations = Box::pin(self.room_states()).await?;
                operations.extend(self.reconciliation().await?);
                Ok(operations)
            }
            ChangeKind::Rights => Box::pin(self.universal_rooms()).await,
            // Told in other frames, or by the end of the connection.
            ChangeKind::Typing { .. } | ChangeKind::Presence { .. } | ChangeKind::Session => {
                Ok(Vec::new())
            }
        }
    }

    async fn posted(&self, room: RoomId, row: &str) -> Result<Vec<Operation>, ProjectionError> {
        if !self.is_member(room) {
            return Ok(Vec::new());
        }
        let Some(shown) = self.room_without_members(room).await? else { return Ok(Vec::new()) };
        let mut operations = Vec::new();
        if shown.is_direct() {
            operations
                .extend([Self::room_upsert(shown.clone()), Self::viewer_state_replace(shown)]);
        } else {
            operations.extend(self.viewer_state_of(shown).await?);
        }
        operations.push(Self::activity(room));
        operations.extend(self.row_if_loaded(room, row).await?);
        Ok(operations)
    }

    async fn replied(
        &self,
        room: RoomId,
        row: &str,
        echo: Option<&str>,
    ) -> Result<Vec<Operation>, ProjectionError> {
        if !self.is_member(room) {
            return Ok(Vec::new());
        }
        let Some(state) = self.viewer_state(room).await? else { return Ok(Vec::new()) };
        let mut operations = vec![state];
        operations.extend(self.row_if_loaded(room, row).await?);
        if let Some(echo) = echo {
            operations.extend(self.row_if_loaded(room, echo).await?);
            operations.push(Self::activity(room));
        }
        Ok(operations)
    }

    async fn joined(
        &self,
        room: RoomId,
        user: UserId,
        row: &str,
    ) -> Result<Vec<Operation>, ProjectionError> {
        if !self.is_member(room) {
            return Ok(Vec::new());
        }
        let Some(shown) = self.room(room).await? else { return Ok(Vec::new()) };
        let mut operations = vec![Self::room_upsert(shown)];
        if user != self.session.user {
            operations.extend(self.row_if_loaded(room, row).await?);
            return Ok(operations);
        }
        if self.retains(room) {
            operations.extend(self.timeline(room).await?);
        }
        operations.extend([Self::calls(), Self::notifications(), self.groups().await?]);
        if self.retains(room) {
            operations.extend(self.row(room, row).await?);
        }
        Ok(operations)
    }

    async fn left(
        &self,
        room: RoomId,
        user: UserId,
        row: &str,
    ) -> Result<Vec<Operation>, ProjectionError> {
        let is_member = self.is_member(room);
        if user == self.session.user && !is_member {
            // STATE may have told it before its row came.
            let was_member = self.sent_rooms.get(&room).is_some_and(|sent| sent.is_member);
            return if self.is_complete && !was_member {
                Ok(Vec::new())
            } else {
                self.membership_lost(room).await
            };
        }
        if !is_member {
            return Ok(Vec::new());
        }
        // A member that is back already is told of that by the row of its joining.
        let Some(shown) = self.room(room).await? else { return Ok(Vec::new()) };
        let mut operations = vec![Self::room_upsert(shown)];
        operations.extend(self.row_if_loaded(room, row).await?);
        Ok(operations)
    }

    /// The viewer lost its membership.
    async fn membership_lost(&self, room: RoomId) -> Result<Vec<Operation>, ProjectionError> {
        let mut operations = Vec::new();
        match self.room(room).await? {
            Some(shown) => {
                operations.push(Self::room_upsert(shown));
                if self.retains(room) {
                    operations.push(Self::empty_timeline(room));
                }
            }
            None => operations.push(Self::room_removed(room)),
        }
        operations.extend([Self::calls(), Self::notifications(), Self::threads()]);
        operations.extend(self.viewer().await?);
        operations.push(self.groups().await?);
        Ok(operations)
    }

    /// Brings the client from what it was told of a room to what its viewer sees now; `rule_changed`: also the
    /// rows, whatever it was told.
    async fn room_changed(
        &self,
        room: RoomId,
        rule_changed: bool,
    ) -> Result<Vec<Operation>, ProjectionError> {
        let sent = self.sent_rooms.get(&room);
        let was_member = sent.is_some_and(|sent| sent.is_member);
        let Some(shown) = self.room(room).await? else {
            // What the viewer never saw it is not told of.
            return if sent.is_some() { self.membership_lost(room).await } else { Ok(Vec::new()) };
        };
        let is_member = shown.is_member();
        if was_member && !is_member {
            return self.membership_lost(room).await;
        }
        let mut operations = vec![Self::room_upsert(shown)];
        let becomes_member = is_member && !was_member;
        if (becomes_member || rule_changed) && self.retains(room) {
            operations
                .push(self.timeline(room).await?.unwrap_or_else(|| Self::empty_timeline(room)));
        }
        if sent.is_none() || becomes_member || rule_changed {
            operations.extend([Self::calls(), Self::notifications()]);
        }
        operations.push(self.groups().await?);
        Ok(operations)
    }

    /// The same for a room that may be as the client was told: nothing then.
    async fn room_if_changed(&self, room: RoomId) -> Result<Vec<Operation>, ProjectionError> {
        let sent = self.sent_rooms.get(&room);
        match self.room(room).await? {
            Some(shown) if self.was_sent(&shown) => Ok(Vec::new()),
            // Others came or went.
            Some(shown) if sent.is_some_and(|one| one.is_member == shown.is_member()) => {
                Ok(vec![Self::room_upsert(shown)])
            }
            _ => Box::pin(self.room_changed(room, false)).await,
        }
    }

    /// A membership changed in STATE. Most are told by the rows that follow; this is for those without one.
    async fn membership(
        &self,
        room: RoomId,
        user: UserId,
        announced: bool,
    ) -> Result<Vec<Operation>, ProjectionError> {
        if user != self.session.user {
            let concerns = announced && self.retains(room) && self.is_member(room);
            return if concerns {
                Box::pin(self.room_if_changed(room)).await
            } else {
                Ok(Vec::new())
            };
        }
        if self.is_complete {
            // A right that is lost is told at once; one that is won comes with its row.
            let concerns = announced || !self.is_member(room);
            return if concerns {
                Box::pin(self.room_if_changed(room)).await
            } else {
                Ok(Vec::new())
            };
        }
        // The client has the room or has it not: it is told as of a change, also while the row is to come.
        if self.is_member(room) {
            Box::pin(self.room_changed(room, true)).await
        } else {
            self.membership_lost(room).await
        }
    }

    /// A group came, went or changed, and its rooms with it.
    async fn group_changed(&self, group: GroupId) -> Result<Vec<Operation>, ProjectionError> {
        let mut operations = vec![self.groups().await?];
        for room in self.service.directory().rooms_in_group(group) {
            operations.extend(Box::pin(self.room_if_changed(room)).await?);
        }
        Ok(operations)
    }

    /// The rights of others changed: who is a member by rule may be another one.
    async fn universal_rooms(&self) -> Result<Vec<Operation>, ProjectionError> {
        let mut operations = Vec::new();
        for room in self.retained.iter().filter_map(|id| RoomId::try_from(id.as_str()).ok()) {
            if let Some(shown) = self.room(room).await?
                && shown.with_state.room.universal
                && !self.was_sent(&shown)
            {
                operations.push(Self::room_upsert(shown));
            }
        }
        Ok(operations)
    }

    async fn user_changed(
        &self,
        user: UserId,
        is_new: bool,
    ) -> Result<Vec<Operation>, ProjectionError> {
        let upsert = self.user(&user);
        let erased = matches!(upsert, Operation::UserRemove(_));
        let mut operations = vec![upsert];
        if user == self.session.user {
            operations.extend(self.viewer().await?);
        }
        if !is_new && !erased {
            return Ok(operations);
        }
        for room in self.retained.iter().filter_map(|id| RoomId::try_from(id.as_str()).ok()) {
            if !self.is_member(room) {
                continue;
            }
            let Some(shown) = self.room(room).await? else { continue };
            if erased {
                operations.extend(self.timeline(room).await?);
            } else if shown.with_state.room.universal {
                operations.push(Self::room_upsert(shown));
            }
        }
        Ok(operations)
    }

    async fn marker_moved(&self, target: &str) -> Result<Vec<Operation>, ProjectionError> {
        let Ok(room) = RoomId::try_from(target) else { return Ok(Vec::new()) };
        let Some(state) = self.viewer_state(room).await? else { return Ok(Vec::new()) };
        let mut operations = vec![state, Self::notifications()];
        operations.extend(self.viewer().await?);
        Ok(operations)
    }
}
