//! From the subscription to `caught_up`: everything anew, or what changed since the cursor
//! (contract 8.3, 8.7).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Socket;
use super::change::{Change, ChangeKind};
use super::connection::CloseReason;
use super::frames;
use super::live::LiveConnection;
use super::loads::LoadPhase;
use super::projection::{ProjectionError, ViewerProjection};
use crate::contract::realtime::{self as wire, realtime_projection_operation::Operation};
use crate::domain::RoomId;
use crate::limits::SNAPSHOT_BATCH;
use crate::service::StoreError;

impl<S: Socket> LiveConnection<'_, '_, S> {
    /// Brings the client to the position it was registered at.
    pub(super) async fn catch_up(&mut self, cursor: Option<&str>) -> Result<(), CloseReason> {
        let service = self.connection.realtime.service.clone();
        let since =
            cursor.and_then(|one| service.resume_cursors().open(&self.session, one, self.rights));
        let replay = match since {
            Some(since) => {
                let changes =
                    self.connection.realtime.hub.changes_between(since, self.position).await;
                changes.map_err(|error| ProjectionError::from(StoreError::from(error)))?
            }
            None => None,
        };
        // What the client has is not known here: ids of rooms that were hidden all the time are not told.
        let is_safe =
            |changes: &Vec<Change>| !changes.iter().any(|one| self.has_unknown_past(&one.kind));
        match (replay.filter(is_safe), cursor) {
            (Some(changes), Some(cursor)) => {
                self.load.release_slot();
                self.connection.send(frames::subscribed(cursor.to_owned())).await?;
                self.is_complete = false;
                self.reacquire_slot().await?;
                self.replay(changes).await?;
                // All rooms there are, as of one moment and another: later changes compare with these.
                let mut operations = Box::pin(self.projection().room_states()).await?;
                self.complete_from = service.state_seen();
                operations.extend(self.projection().reconciliation().await?);
                self.send_loaded(operations).await?;
            }
            _ => {
                let start = self.cursor();
                self.load.release_slot();
                self.connection.send(frames::subscribed(start)).await?;
                self.reacquire_slot().await?;
                Box::pin(self.snapshot()).await?;
                let operations = self.projection().reconciliation().await?;
                self.send_loaded(operations).await?;
            }
        }
        self.load.release_slot();
        self.read_pending_frames().await?;
        let reached = self.cursor();
        self.connection.send(frames::caught_up(reached)).await
    }

    /// Sends what was assembled. Meanwhile others assemble theirs: the client may take its time.
    async fn send_loaded(&mut self, operations: Vec<Operation>) -> Result<(), CloseReason> {
        self.load.release_slot();
        self.send_operations(operations, None).await?;
        self.read_pending_frames().await?;
        self.reacquire_slot().await
    }

    async fn reacquire_slot(&mut self) -> Result<(), CloseReason> {
        let load = Arc::clone(&self.load);
        self.connection.wait_for_slot(&load, LoadPhase::Continue).await
    }

    async fn replay(&mut self, changes: Vec<Change>) -> Result<(), CloseReason> {
        self.loaded = self.loaded_before(&changes);
        for change in changes {
            let operations = self.projection().operations(&change.kind).await?;
            if !operations.is_empty() {
                let head = self.connection.realtime.head_of(&change);
                self.load.release_slot();
                self.send_projection_event(head, None, operations).await?;
                self.read_pending_frames().await?;
                self.reacquire_slot().await?;
            }
        }
        Ok(())
    }

    /// The held rooms whose rows the client got before it was cut: those it was a member of then.
    fn loaded_before(&self, changes: &[Change]) -> HashSet<String> {
        let mut was_member = HashMap::new();
        for change in changes {
            match &change.kind {
                ChangeKind::Joined { room, user, .. } if *user == self.session.user => {
                    was_member.entry(*room).or_insert(false);
                }
                ChangeKind::Left { room, user, .. } if *user == self.session.user => {
                    was_member.entry(*room).or_insert(true);
                }
                _ => {}
            }
        }
        let loaded = |id: &&String| {
            RoomId::try_from(id.as_str()).is_ok_and(|room| {
                let is_member = || self.projection().is_member(room);
                was_member.get(&room).copied().unwrap_or_else(is_member)
            })
        };
        self.retained.iter().filter(loaded).cloned().collect()
    }

    /// The reset prefix.
    async fn snapshot(&mut self) -> Result<(), CloseReason> {
        let mut first = vec![Operation::Reset(wire::RealtimeProjectionReset {})];
        first.extend([self.projection().server(), self.projection().server_state()]);
        first.extend(self.projection().viewer().await?);
        self.send_loaded(first).await?;
        let everybody = self.projection().users();
        for users in everybody.chunks(SNAPSHOT_BATCH) {
            let users = users.iter().map(|id| self.projection().user(id)).collect();
            self.send_loaded(users).await?;
        }
        let shown = self.connection.realtime.service.directory().shown_rooms(&self.session).await;
        let shown = shown.map_err(|error| ProjectionError::from(StoreError::from(error)))?;
        let mut channels = HashMap::new();
        for rooms in shown.chunks(SNAPSHOT_BATCH) {
            let mut upserts = Vec::new();
            for id in rooms {
                let Some(room) = self.projection().room(*id).await? else { continue };
                if !room.is_direct() {
                    channels.insert(*id, room.with_state.clone());
                }
                upserts.push(ViewerProjection::room_upsert(room));
            }
            self.send_loaded(upserts).await?;
        }
        let groups = self.projection().groups_from(channels).await?;
        let rest = vec![groups, ViewerProjection::notifications(), ViewerProjection::calls()];
        self.send_loaded(rest).await?;
        let mut retained: Vec<RoomId> =
            self.retained.iter().filter_map(|id| RoomId::try_from(id.as_str()).ok()).collect();
        retained.sort_unstable();
        for id in retained.into_iter().filter(|id| shown.contains(id)) {
            if let Some(timeline) = Box::pin(self.projection().timeline(id)).await? {
                self.send_loaded(vec![timeline]).await?;
            }
        }
        Ok(())
    }
}
