//! The operations of each change (contract, behaviour 3), for one viewer.

use super::change::Cause;
use super::lens::{Lens, Unreadable};
use crate::contract::realtime::realtime_projection_operation::Operation;
use crate::domain::{RoomId, UserId};

impl Lens<'_> {
    /// What a change means for the viewer now; nothing when it may not see it.
    pub(super) async fn operations(&self, cause: &Cause) -> Result<Vec<Operation>, Unreadable> {
        match cause {
            Cause::Posted { room, row } => Box::pin(self.posted(*room, row)).await,
            Cause::Replied { room, row, echo } => {
                Box::pin(self.replied(*room, row, echo.as_deref())).await
            }
            Cause::RowChanged { room, row } | Cause::RowAdded { room, row } => {
                Box::pin(self.row(*room, row)).await
            }
            Cause::Joined { room, user, row } => Box::pin(self.joined(*room, *user, row)).await,
            Cause::Left { room, user, row } => Box::pin(self.left(*room, *user, row)).await,
            Cause::Room { room, rule_changed } => {
                Box::pin(self.room_changed(*room, *rule_changed)).await
            }
            Cause::Groups => Ok(vec![self.groups().await?]),
            Cause::User { user, is_new } => Box::pin(self.user_changed(*user, *is_new)).await,
            Cause::Own => self.viewer().await,
            Cause::Server { profile, state } => {
                let profile = profile.then(|| self.server());
                Ok(profile.into_iter().chain(state.then(|| self.server_state())).collect())
            }
            Cause::Read { target } => Box::pin(self.read(target)).await,
            Cause::Refresh => {
                let mut operations = Box::pin(self.room_states()).await?;
                operations.extend(self.reconciliation().await?);
                Ok(operations)
            }
            // Told in other frames, or by the end of the connection.
            Cause::Typing { .. } | Cause::Presence { .. } | Cause::Session | Cause::Rights => {
                Ok(Vec::new())
            }
        }
    }

    async fn posted(&self, room: RoomId, row: &str) -> Result<Vec<Operation>, Unreadable> {
        if !self.is_member(room) {
            return Ok(Vec::new());
        }
        let Some(shown) = self.seen(room).await? else { return Ok(Vec::new()) };
        let mut operations = Vec::new();
        if shown.is_direct() {
            operations.push(Self::room(shown.clone()));
        }
        operations.push(Self::room_state(shown));
        operations.push(Self::activity(room));
        operations.extend(self.row(room, row).await?);
        Ok(operations)
    }

    async fn replied(
        &self,
        room: RoomId,
        row: &str,
        echo: Option<&str>,
    ) -> Result<Vec<Operation>, Unreadable> {
        if !self.is_member(room) {
            return Ok(Vec::new());
        }
        let Some(shown) = self.seen(room).await? else { return Ok(Vec::new()) };
        let mut operations = vec![Self::room_state(shown)];
        operations.extend(self.row(room, row).await?);
        if let Some(echo) = echo {
            operations.extend(self.row(room, echo).await?);
            operations.push(Self::activity(room));
        }
        Ok(operations)
    }

    async fn joined(
        &self,
        room: RoomId,
        user: UserId,
        row: &str,
    ) -> Result<Vec<Operation>, Unreadable> {
        if !self.is_member(room) {
            return Ok(Vec::new());
        }
        let Some(shown) = self.shown(room).await? else { return Ok(Vec::new()) };
        let mut operations = vec![Self::room(shown)];
        if user != self.session.user {
            operations.extend(self.row(room, row).await?);
            return Ok(operations);
        }
        if self.holds(room) {
            operations.extend(self.timeline(room).await?);
        }
        operations.extend([Self::calls(), Self::notifications(), self.groups().await?]);
        if self.holds(room) {
            operations.extend(self.row_anyway(room, row).await?);
        }
        Ok(operations)
    }

    async fn left(
        &self,
        room: RoomId,
        user: UserId,
        row: &str,
    ) -> Result<Vec<Operation>, Unreadable> {
        let is_member = self.is_member(room);
        if user == self.session.user && !is_member {
            return self.lost(room).await;
        }
        if !is_member {
            return Ok(Vec::new());
        }
        // A member that is back already is told of that by the row of its joining.
        let Some(shown) = self.shown(room).await? else { return Ok(Vec::new()) };
        let mut operations = vec![Self::room(shown)];
        operations.extend(self.row(room, row).await?);
        Ok(operations)
    }

    /// The viewer lost its membership.
    async fn lost(&self, room: RoomId) -> Result<Vec<Operation>, Unreadable> {
        let mut operations = Vec::new();
        match self.shown(room).await? {
            Some(shown) => {
                operations.push(Self::room(shown));
                if self.holds(room) {
                    operations.push(Self::no_timeline(room));
                }
            }
            None => operations.push(Self::room_removed(room)),
        }
        operations.extend([Self::calls(), Self::notifications(), Self::threads()]);
        operations.extend(self.viewer().await?);
        operations.push(self.groups().await?);
        Ok(operations)
    }

    async fn room_changed(
        &self,
        room: RoomId,
        rule_changed: bool,
    ) -> Result<Vec<Operation>, Unreadable> {
        let mut operations = Vec::new();
        match self.shown(room).await? {
            Some(shown) => {
                let is_member = shown.with_state.state.is_member;
                operations.push(Self::room(shown));
                if rule_changed && self.holds(room) {
                    let timeline = if is_member { self.timeline(room).await? } else { None };
                    operations.push(timeline.unwrap_or_else(|| Self::no_timeline(room)));
                }
            }
            // Archived. Rights that changed end the connection; a hidden room is not told of.
            None if rule_changed && self.service.would_see(self.session, room) => {
                operations.push(Self::room_removed(room));
            }
            None => return Ok(Vec::new()),
        }
        if rule_changed {
            operations.extend([Self::calls(), Self::notifications()]);
        }
        operations.push(self.groups().await?);
        Ok(operations)
    }

    async fn user_changed(&self, user: UserId, is_new: bool) -> Result<Vec<Operation>, Unreadable> {
        let upsert = self.user(&user);
        let erased = matches!(upsert, Operation::UserRemove(_));
        let mut operations = vec![upsert];
        if user == self.session.user {
            operations.extend(self.viewer().await?);
        }
        if !is_new && !erased {
            return Ok(operations);
        }
        for room in self.held.iter().filter_map(|id| RoomId::try_from(id.as_str()).ok()) {
            if !self.is_member(room) {
                continue;
            }
            let Some(shown) = self.shown(room).await? else { continue };
            if erased {
                operations.extend(self.timeline(room).await?);
            } else if shown.with_state.room.universal {
                operations.push(Self::room(shown));
            }
        }
        Ok(operations)
    }

    async fn read(&self, target: &str) -> Result<Vec<Operation>, Unreadable> {
        let Ok(room) = RoomId::try_from(target) else { return Ok(Vec::new()) };
        let Some(shown) = self.seen(room).await? else { return Ok(Vec::new()) };
        let mut operations = vec![Self::room_state(shown), Self::notifications()];
        operations.extend(self.viewer().await?);
        Ok(operations)
    }
}
