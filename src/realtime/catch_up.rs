//! From the subscription to `caught_up`: everything anew, or what changed since the cursor
//! (contract 8.3, 8.7).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Socket;
use super::change::{Cause, Change};
use super::connection::End;
use super::frames;
use super::lens::{Lens, Unreadable};
use super::live::Live;
use super::loads::Wait;
use crate::contract::realtime::{self as wire, realtime_projection_operation::Operation};
use crate::domain::RoomId;
use crate::limits::SNAPSHOT_BATCH;
use crate::service::StoreError;

impl<S: Socket> Live<'_, '_, S> {
    /// Brings the client to the position it was registered at.
    pub(super) async fn catch_up(&mut self, cursor: Option<&str>) -> Result<(), End> {
        let service = self.connection.realtime.service.clone();
        let since =
            cursor.and_then(|one| service.resume_cursors().open(&self.session, one, self.rights));
        let replay = match since {
            Some(since) => {
                let gap = self.connection.realtime.hub.gap(since, self.told).await;
                gap.map_err(|error| Unreadable::from(StoreError::from(error)))?
            }
            None => None,
        };
        // What the client has is not known here: ids of rooms that were hidden all the time are not told.
        let is_safe =
            |changes: &Vec<Change>| !changes.iter().any(|one| self.has_unknown_past(&one.cause));
        match (replay.filter(is_safe), cursor) {
            (Some(changes), Some(cursor)) => {
                self.load.pause();
                self.connection.send(frames::subscribed(cursor.to_owned())).await?;
                self.is_complete = false;
                self.resume_load().await?;
                self.replay(changes).await?;
                // All rooms there are, as of one moment and another: later changes compare with these.
                let mut operations = Box::pin(self.lens().room_states()).await?;
                self.complete_from = service.state_seen();
                operations.extend(self.lens().reconciliation().await?);
                self.send_loaded(operations).await?;
            }
            _ => {
                let start = self.cursor();
                self.load.pause();
                self.connection.send(frames::subscribed(start)).await?;
                self.resume_load().await?;
                Box::pin(self.snapshot()).await?;
                let operations = self.lens().reconciliation().await?;
                self.send_loaded(operations).await?;
            }
        }
        self.load.pause();
        self.breathe().await?;
        let reached = self.cursor();
        self.connection.send(frames::caught_up(reached)).await
    }

    /// Sends what was assembled. Meanwhile others assemble theirs: the client may take its time.
    async fn send_loaded(&mut self, operations: Vec<Operation>) -> Result<(), End> {
        self.load.pause();
        self.project(operations, None).await?;
        self.breathe().await?;
        self.resume_load().await
    }

    async fn resume_load(&mut self) -> Result<(), End> {
        let load = Arc::clone(&self.load);
        self.connection.wait_for_slot(&load, Wait::Next).await
    }

    async fn replay(&mut self, changes: Vec<Change>) -> Result<(), End> {
        self.loaded = self.loaded_before(&changes);
        for change in changes {
            let operations = self.lens().operations(&change.cause).await?;
            if !operations.is_empty() {
                let head = self.connection.realtime.head_of(&change);
                self.load.pause();
                self.send_event(head, None, operations).await?;
                self.breathe().await?;
                self.resume_load().await?;
            }
        }
        Ok(())
    }

    /// The held rooms whose rows the client got before it was cut: those it was a member of then.
    fn loaded_before(&self, changes: &[Change]) -> HashSet<String> {
        let mut was_member = HashMap::new();
        for change in changes {
            match &change.cause {
                Cause::Joined { room, user, .. } if *user == self.session.user => {
                    was_member.entry(*room).or_insert(false);
                }
                Cause::Left { room, user, .. } if *user == self.session.user => {
                    was_member.entry(*room).or_insert(true);
                }
                _ => {}
            }
        }
        let loaded = |id: &&String| {
            RoomId::try_from(id.as_str()).is_ok_and(|room| {
                let is_member = || self.lens().is_member(room);
                was_member.get(&room).copied().unwrap_or_else(is_member)
            })
        };
        self.held.iter().filter(loaded).cloned().collect()
    }

    /// The reset prefix.
    async fn snapshot(&mut self) -> Result<(), End> {
        let mut first = vec![Operation::Reset(wire::RealtimeProjectionReset {})];
        first.extend([self.lens().server(), self.lens().server_state()]);
        first.extend(self.lens().viewer().await?);
        self.send_loaded(first).await?;
        let everybody = self.lens().everybody();
        for users in everybody.chunks(SNAPSHOT_BATCH) {
            let users = users.iter().map(|id| self.lens().user(id)).collect();
            self.send_loaded(users).await?;
        }
        let shown = self.connection.realtime.service.directory().shown_rooms(&self.session).await;
        let shown = shown.map_err(|error| Unreadable::from(StoreError::from(error)))?;
        let mut channels = HashMap::new();
        for rooms in shown.chunks(SNAPSHOT_BATCH) {
            let mut upserts = Vec::new();
            for id in rooms {
                let Some(room) = self.lens().shown(*id).await? else { continue };
                if !room.is_direct() {
                    channels.insert(*id, room.with_state.clone());
                }
                upserts.push(Lens::room(room));
            }
            self.send_loaded(upserts).await?;
        }
        let groups = self.lens().groups_from(channels).await?;
        let rest = vec![groups, Lens::notifications(), Lens::calls()];
        self.send_loaded(rest).await?;
        let mut held: Vec<RoomId> =
            self.held.iter().filter_map(|id| RoomId::try_from(id.as_str()).ok()).collect();
        held.sort_unstable();
        for id in held.into_iter().filter(|id| shown.contains(id)) {
            if let Some(timeline) = Box::pin(self.lens().timeline(id)).await? {
                self.send_loaded(vec![timeline]).await?;
            }
        }
        Ok(())
    }
}
