//! Folding what is due, and the checkpoint: everything before it is folded, held rooms excepted.

use std::collections::{HashMap, HashSet};

use crate::limits::OVERLAY_EVENTS_MAX;
use crate::nats::{BatchRead, Nats};
use crate::runtime::Clock;
use crate::storage::error::{ChangeError, StorageError};
use crate::storage::feed::journal::JournalFeed;
use crate::storage::feed::{Sink, followed};
use crate::storage::fold::FoldError;
use crate::storage::fold::held::{HELD_ROOMS_MAX, HoldReason};
use crate::storage::fold::schedule::Share;
use crate::storage::kv::lease::Lease;
use crate::storage::layout::{journal_subject, stream};
use crate::storage::records::{FoldCheckpoint, HeldRoom};
use crate::storage::state::RecordChange;
use crate::storage::state::mirror::{Mirror, Tables};
use crate::storage::store::Inner;

/// Where STATE has it.
pub(crate) const SUBJECT: &str = "$KV.STATE.fold.checkpoint";
/// Events of one held room that a start keeps in memory.
const HELD_EVENTS_MAX: usize = OVERLAY_EVENTS_MAX / 4;
/// Messages of a held room per request.
const HELD_BATCH: u32 = 256;

/// The checkpoint of an epoch; an empty one when there is none.
pub(crate) fn read(mirror: &Mirror, epoch: &[u8]) -> FoldCheckpoint {
    let checkpoint = mirror.read(Tables::checkpoint);
    if checkpoint.epoch == epoch {
        FoldCheckpoint::clone(&checkpoint)
    } else {
        FoldCheckpoint::default()
    }
}

impl Inner {
    /// The checkpoint of this epoch; an empty one when there is none.
    pub(crate) fn checkpoint(&self) -> FoldCheckpoint {
        read(&self.mirror, &self.identity.epoch)
    }

    /// Folds the rooms that are due and moves the checkpoint.
    pub(crate) async fn fold_due(
        &self,
        all: bool,
        lease: Option<&Lease>,
    ) -> Result<(), StorageError> {
        self.check_epoch().await?;
        let due = self.overlay.due(self.clock.now(), all);
        Box::pin(self.fold_rooms(due, lease)).await?;
        self.move_checkpoint(lease).await
    }

    /// Folds rooms independently: one that cannot be folded is held, and the others are folded.
    async fn fold_rooms(
        &self,
        rooms: Vec<(String, Share)>,
        lease: Option<&Lease>,
    ) -> Result<(), StorageError> {
        let checkpoint = self.checkpoint();
        let mut contended = false;
        for (room, share) in rooms {
            self.keep_lease(lease).await?;
            let held = checkpoint.held.iter().find(|held| held.room_id == room);
            let folded_before = held.map_or(checkpoint.next_sequence, |held| held.first_sequence);
            match self.folder.fold(&room, share, lease, folded_before).await {
                Ok(()) => {
                    if self.overlay.release(&room) {
                        log::info!(room = room; "the room is folded again");
                    }
                }
                Err(FoldError::Hold(reason)) => {
                    if self.overlay.hold(&room, reason.clone(), self.clock.now()) {
                        log::error!(
                            room = room, reason:err = reason;
                            "the room's new events cannot be folded: the room is held, other rooms are not affected"
                        );
                    }
                }
                Err(FoldError::Contended) => contended = true,
                Err(FoldError::Storage(error)) => return Err(error),
            }
        }
        if contended {
            log::debug!("other processes fold the same rooms; the rest is folded later");
        }
        Ok(())
    }

    /// Renews the lease of a long piece of work.
    async fn keep_lease(&self, lease: Option<&Lease>) -> Result<(), StorageError> {
        match lease {
            Some(lease) if lease.is_ageing() => self.lease("fold", lease.ttl()).await.map(|_| ()),
            _ => Ok(()),
        }
    }

    /// Moves the checkpoint to the lowest unfolded event, held rooms excepted, which it names.
    async fn move_checkpoint(&self, lease: Option<&Lease>) -> Result<(), StorageError> {
        // The position first: an event that arrives now is then above it or in the overlay.
        let reached = self.journal_position.reached();
        let firsts = self.overlay.first_sequences();
        let held_here: HashSet<String> =
            self.overlay.held().into_iter().map(|held| held.room).collect();
        let epoch = self.identity.epoch.clone();
        let number = lease.map_or(0, Lease::number);
        let moved = self
            .state
            .change::<FoldCheckpoint, Superseded>(&(), |present| {
                let present = present.filter(|present| present.epoch == epoch);
                let is_over = lease.is_some_and(|lease| !lease.holds());
                if is_over || present.is_some_and(|present| number > 0 && present.fence > number) {
                    return Err(Superseded);
                }
                let former = present.cloned().unwrap_or_default();
                let seen = FoldProgress { reached, firsts: &firsts, held_here: &held_here };
                let next = seen.checkpoint(&former);
                let next = FoldCheckpoint {
                    epoch: epoch.clone(),
                    fence: former.fence.max(number),
                    ..next
                };
                let unchanged =
                    next.next_sequence == former.next_sequence && next.held == former.held;
                Ok(if unchanged { RecordChange::Keep } else { RecordChange::Put(next) })
            })
            .await;
        match moved {
            Ok(_) => Ok(()),
            Err(ChangeError::Storage(error)) => Err(error),
            Err(ChangeError::Refused(Superseded)) => {
                log::info!("the fold lease has ended; another process takes over");
                Err(StorageError::LATE)
            }
        }
    }

    /// Drops events that another process has folded. Folds rooms that the other process holds and this one can read,
    /// as when a newer program runs beside an older one that has the lease.
    pub(crate) async fn follow_other_folds(&self) -> Result<(), StorageError> {
        let checkpoint = self.checkpoint();
        let held: HashSet<&str> =
            checkpoint.held.iter().map(|held| held.room_id.as_str()).collect();
        let now = self.clock.now();
        let dropped =
            self.overlay.drop_before(checkpoint.next_sequence, |room| held.contains(room), now);
        self.timeline.invalidate(&dropped);
        self.overlay.release_folded();
        if held.is_empty() {
            return Ok(());
        }
        let held_here: HashSet<String> =
            self.overlay.held().into_iter().map(|held| held.room).collect();
        let firsts = self.overlay.first_sequences();
        let foldable = firsts
            .into_iter()
            .map(|(room, _)| room)
            .filter(|room| held.contains(room.as_str()) && !held_here.contains(room));
        let foldable: Vec<_> = foldable.map(|room| (room, Share::All)).collect();
        if foldable.is_empty() && !held.iter().any(|room| self.overlay.tail(room).is_empty()) {
            return Ok(());
        }
        Box::pin(self.fold_rooms(foldable, None)).await?;
        self.move_checkpoint(None).await
    }
}

/// Reads the events of held rooms before the checkpoint, which the feed does not bring.
///
/// # Errors
/// [`StorageError`] when the journal cannot be read.
pub(crate) async fn read_held(
    nats: &Nats,
    clock: &Clock,
    checkpoint: &FoldCheckpoint,
    feed: &JournalFeed,
) -> Result<(), StorageError> {
    for held in &checkpoint.held {
        let subject = journal_subject(&held.room_id);
        let mut next = held.first_sequence;
        let mut read = 0;
        'room: while next < checkpoint.next_sequence {
            let what =
                BatchRead::OfSubject { subject: &subject, sequence: next, count: HELD_BATCH };
            let mut messages = nats.read(stream::JOURNAL, what).await?.messages;
            if messages.is_empty() {
                // A lagging replica returns the same: the leader knows, unless it is new and has not caught up.
                let info = nats.stream(stream::JOURNAL).await?.ok_or(StorageError::LATE)?;
                if info.state.last_sequence.saturating_add(1) < checkpoint.next_sequence {
                    return Err(StorageError::LATE);
                }
                messages.extend(nats.leader_next(stream::JOURNAL, &subject, next).await?);
            }
            if messages.is_empty() {
                break;
            }
            for message in messages {
                let sequence = message.sequence;
                if sequence >= checkpoint.next_sequence {
                    break 'room;
                }
                if read >= HELD_EVENTS_MAX {
                    feed.overlay.block(&held.room_id, sequence, HoldReason::TooMany, clock.now());
                    break 'room;
                }
                next = sequence.saturating_add(1);
                read += 1;
                feed.apply(followed(message)).await;
            }
        }
    }
    Ok(())
}

/// The lease is over, or another process has it with a higher number.
#[derive(Debug)]
struct Superseded;

/// What this process knows of unfolded events.
struct FoldProgress<'a> {
    /// How far its feed has come.
    reached: u64,
    /// The lowest unfolded sequence of each room that has one.
    firsts: &'a [(String, u64)],
    held_here: &'a HashSet<String>,
}

impl FoldProgress<'_> {
    /// Where the checkpoint may stand, after `former`.
    fn checkpoint(&self, former: &FoldCheckpoint) -> FoldCheckpoint {
        let firsts: HashMap<&str, u64> =
            self.firsts.iter().map(|(room, first)| (room.as_str(), *first)).collect();
        let mut held: Vec<HeldRoom> = Vec::new();
        let beyond = self.reached.saturating_add(1);
        for entry in &former.held {
            let is_unfolded = firsts.contains_key(entry.room_id.as_str());
            // What lies beyond the feed's position is not known to be folded.
            if is_unfolded || entry.first_sequence >= beyond {
                held.push(entry.clone());
            } else if former.next_sequence > beyond {
                held.push(HeldRoom { first_sequence: beyond, ..entry.clone() });
            }
        }
        for (room, first) in self.firsts {
            let is_named = held.iter().any(|entry| entry.room_id == *room);
            if self.held_here.contains(room) && !is_named {
                held.push(HeldRoom { room_id: room.clone(), first_sequence: *first });
            }
        }
        for entry in &mut held {
            if let Some(first) = firsts.get(entry.room_id.as_str()) {
                entry.first_sequence = *first;
            }
        }
        held.sort_by_key(|entry| entry.first_sequence);
        // Those that were named before stay: the checkpoint has passed them already.
        let (mut named, mut new): (Vec<_>, Vec<_>) = held
            .into_iter()
            .partition(|entry| former.held.iter().any(|known| known.room_id == entry.room_id));
        new.truncate(HELD_ROOMS_MAX.saturating_sub(named.len()));
        named.append(&mut new);
        named.sort_by_key(|entry| entry.first_sequence);
        let lowest =
            firsts.iter().filter(|(room, _)| !named.iter().any(|held| held.room_id == **room));
        let lowest = lowest.map(|(_, first)| *first).min();
        let next = lowest.map_or(beyond, |first| first.min(beyond));
        FoldCheckpoint {
            next_sequence: former.next_sequence.max(next),
            held: named,
            ..FoldCheckpoint::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(room: &str, first_sequence: u64) -> HeldRoom {
        HeldRoom { room_id: room.to_owned(), first_sequence }
    }

    fn checkpoint(next_sequence: u64, held: &[HeldRoom]) -> FoldCheckpoint {
        FoldCheckpoint { next_sequence, held: held.to_vec(), ..FoldCheckpoint::default() }
    }

    /// The next checkpoint of a process that holds no room.
    fn next(reached: u64, firsts: &[(&str, u64)], former: &FoldCheckpoint) -> FoldCheckpoint {
        let firsts: Vec<_> = firsts.iter().map(|(room, at)| ((*room).to_owned(), *at)).collect();
        FoldProgress { reached, firsts: &firsts, held_here: &HashSet::new() }.checkpoint(former)
    }

    #[test]
    fn a_held_room_ends_where_everything_before_the_checkpoint_is_folded() {
        let former = checkpoint(201, &[held("R", 99)]);
        assert_eq!(next(200, &[], &former), checkpoint(201, &[]));
        assert_eq!(next(300, &[], &former), checkpoint(301, &[]));
        assert_eq!(next(300, &[("R", 250)], &former), checkpoint(301, &[held("R", 250)]));
    }

    #[test]
    fn a_process_that_is_behind_forgets_no_event_of_a_held_room() {
        // It has folded what it knows; the checkpoint has passed an event at 200 that it has not received.
        let former = checkpoint(201, &[held("R", 99)]);
        assert_eq!(next(199, &[], &former), checkpoint(201, &[held("R", 200)]));
        assert_eq!(next(50, &[], &former), checkpoint(201, &[held("R", 99)]));
    }
}
