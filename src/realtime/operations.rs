//! The operations of each change (contract, behaviour 3), for one viewer.

use super::change::Cause;
use super::lens::{Lens, Unreadable};
use crate::contract::realtime::realtime_projection_operation::Operation;
use crate::domain::{GroupId, RoomId, UserId};

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
            Cause::Membership { room, user, settled } => {
                Box::pin(self.membership(*room, *user, *settled)).await
            }
            Cause::Groups { group } => Box::pin(self.group_changed(*group)).await,
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
            Cause::Rights => Box::pin(self.members_by_rule()).await,
            // Told in other frames, or by the end of the connection.
            Cause::Typing { .. } | Cause::Presence { .. } | Cause::Session => Ok(Vec::new()),
        }
    }

    async fn posted(&self, room: RoomId, row: &str) -> Result<Vec<Operation>, Unreadable> {
        if !self.is_member(room) {
            return Ok(Vec::new());
        }
        let Some(shown) = self.seen(room).await? else { return Ok(Vec::new()) };
        let mut operations = Vec::new();
        if shown.is_direct() {
            operations.extend([Self::room(shown.clone()), Self::room_state(shown)]);
        } else {
            operations.extend(self.state_of(shown).await?);
        }
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
        let Some(state) = self.state(room).await? else { return Ok(Vec::new()) };
        let mut operations = vec![state];
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
            // STATE may have told it before its row came.
            let was_member = self.known.get(&room).is_some_and(|known| known.is_member);
            return if self.is_complete && !was_member {
                Ok(Vec::new())
            } else {
                self.lost(room).await
            };
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

    /// Brings the client from what it was told of a room to what its viewer sees now; `rule_changed`: also the
    /// rows, whatever it was told.
    async fn room_changed(
        &self,
        room: RoomId,
        rule_changed: bool,
    ) -> Result<Vec<Operation>, Unreadable> {
        let known = self.known.get(&room);
        let was_member = known.is_some_and(|known| known.is_member);
        let Some(shown) = self.shown(room).await? else {
            // What the viewer never saw it is not told of.
            return if known.is_some() { self.lost(room).await } else { Ok(Vec::new()) };
        };
        let is_member = shown.is_member();
        if was_member && !is_member {
            return self.lost(room).await;
        }
        let mut operations = vec![Self::room(shown)];
        let comes_in = is_member && !was_member;
        if (comes_in || rule_changed) && self.holds(room) {
            operations.push(self.timeline(room).await?.unwrap_or_else(|| Self::no_timeline(room)));
        }
        if known.is_none() || comes_in || rule_changed {
            operations.extend([Self::calls(), Self::notifications()]);
        }
        operations.push(self.groups().await?);
        Ok(operations)
    }

    /// The same for a room that may be as the client was told: nothing then.
    async fn room_rights(&self, room: RoomId) -> Result<Vec<Operation>, Unreadable> {
        let known = self.known.get(&room);
        match self.shown(room).await? {
            Some(shown) if self.knows(&shown) => Ok(Vec::new()),
            // Others came or went.
            Some(shown) if known.is_some_and(|one| one.is_member == shown.is_member()) => {
                Ok(vec![Self::room(shown)])
            }
            _ => Box::pin(self.room_changed(room, false)).await,
        }
    }

    /// A membership changed in STATE. Most are told by the rows that follow; this is for those without one.
    async fn membership(
        &self,
        room: RoomId,
        user: UserId,
        settled: bool,
    ) -> Result<Vec<Operation>, Unreadable> {
        if user != self.session.user {
            let concerns = settled && self.holds(room) && self.is_member(room);
            return if concerns { Box::pin(self.room_rights(room)).await } else { Ok(Vec::new()) };
        }
        if self.is_complete {
            // A right that is lost is told at once; one that is won comes with its row.
            let concerns = settled || !self.is_member(room);
            return if concerns { Box::pin(self.room_rights(room)).await } else { Ok(Vec::new()) };
        }
        // The client has the room or has it not: it is told as of a change, also while the row is to come.
        if self.is_member(room) {
            Box::pin(self.room_changed(room, true)).await
        } else {
            self.lost(room).await
        }
    }

    /// A group came, went or changed, and its rooms with it.
    async fn group_changed(&self, group: GroupId) -> Result<Vec<Operation>, Unreadable> {
        let mut operations = vec![self.groups().await?];
        for room in self.service.directory().rooms_in_group(group) {
            operations.extend(Box::pin(self.room_rights(room)).await?);
        }
        Ok(operations)
    }

    /// The rights of others changed: who is a member by rule may be another one.
    async fn members_by_rule(&self) -> Result<Vec<Operation>, Unreadable> {
        let mut operations = Vec::new();
        for room in self.held.iter().filter_map(|id| RoomId::try_from(id.as_str()).ok()) {
            if let Some(shown) = self.shown(room).await?
                && shown.with_state.room.universal
                && !self.knows(&shown)
            {
                operations.push(Self::room(shown));
            }
        }
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
        let Some(state) = self.state(room).await? else { return Ok(Vec::new()) };
        let mut operations = vec![state, Self::notifications()];
        operations.extend(self.viewer().await?);
        Ok(operations)
    }
}
