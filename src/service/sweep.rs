//! Cleaning up what killed processes left behind, by one process at a time.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use super::error::StoreError;
use super::file_sweep::FileSweep;
use super::millis;
use super::rooms::Rooms;
use crate::domain::text::RoomName;
use crate::domain::{RoomId, UserId};
use crate::limits::{
    ANNOUNCE_AFTER, CLAIM_ORPHANED_AFTER, CLOCK_AHEAD_MAX, FILE_SWEEP_INTERVAL, SWEEP_INTERVAL,
    SWEEP_LEASE,
};
use crate::runtime::{Clock, Stop};
use crate::storage::{
    Claim, ClaimHolder, ClaimKey, ClaimRecord, Lease, Storage, StorageError, Tables,
};
use parking_lot::Mutex;

/// Claims without a holder, and since when this process has known them: the clocks of two machines differ.
pub(super) type Orphans = HashMap<(ClaimKey, ClaimHolder), Instant>;

/// Cleans up what killed processes left behind.
#[derive(Clone, Copy)]
pub struct Sweeper<'a> {
    pub(super) storage: &'a Storage,
    pub(super) clock: &'a Clock,
    pub(super) rooms: Rooms<'a>,
    pub(super) files: FileSweep<'a>,
    pub(super) orphans: &'a Mutex<Orphans>,
}

impl Sweeper<'_> {
    /// Sweeps now and then until stopped, and releases what interrupted commands keep in memory.
    pub async fn run(self, stop: &Stop) {
        // Files may take long, and hold up nothing else.
        let sweeps = Box::pin(self.sweep_until(stop));
        let of_files = Box::pin(self.sweep_files_until(stop));
        let sweeps = futures_lite::future::zip(sweeps, of_files);
        futures_lite::future::zip(sweeps, self.files.works.release_copies(stop)).await;
    }

    async fn sweep_until(self, stop: &Stop) {
        while stop.or(self.clock.sleep(SWEEP_INTERVAL)).await.is_some() {
            if let Some(Err(error)) = stop.or(self.sweep()).await {
                log::warn!(error:err = error.0; "sweep failed; it will be retried");
            }
        }
    }

    async fn sweep_files_until(self, stop: &Stop) {
        let mut pause = SWEEP_INTERVAL;
        while stop.or(self.clock.sleep(pause)).await.is_some() {
            pause = FILE_SWEEP_INTERVAL;
            if let Some(Err(error)) = stop.or(self.sweep_files()).await {
                pause = SWEEP_INTERVAL;
                log::warn!(error:err = error.0; "the sweep of files failed; it will be retried");
            }
        }
    }

    /// Writes the missing rows of joins, departures and new rooms, and releases claims whose holder
    /// was never stored. Does nothing while another process holds the lease.
    ///
    /// # Cancel safety
    /// Dropping it leaves the rest for the next sweep.
    pub async fn sweep(self) -> Result<(), StoreError> {
        let lease = self.storage.lease("sweep", SWEEP_LEASE).await?;
        let Some(mut lease) = lease else { return Ok(()) };
        let now = self.clock.unix_ms();
        let due = now.saturating_sub(millis(ANNOUNCE_AFTER));
        let (rooms, members) = self.storage.state().read(|tables| unannounced(tables, due));
        // Each room by itself: one that cannot be written does not hold up the others.
        let mut failed = None;
        for room in rooms {
            if !goes_on(self.storage, &mut lease).await? {
                return Ok(());
            }
            keep_first_error(&mut failed, self.rooms.announce_room(room).await)?;
        }
        for (room, user) in members {
            if !goes_on(self.storage, &mut lease).await? {
                return Ok(());
            }
            keep_first_error(&mut failed, self.rooms.announce_member(room, user, 0).await)?;
        }
        for (key, holder) in self.orphaned_claims() {
            if !goes_on(self.storage, &mut lease).await? {
                return Ok(());
            }
            self.storage.state().release_key(key, &holder).await?;
            log::info!("released a claim without a holder");
        }
        failed.map_or(Ok(()), |error: StorageError| Err(error.into()))
    }

    /// Removes files that nobody will use, and ends reservations and deletions of processes that were killed. Does
    /// nothing while another process holds the lease.
    ///
    /// # Cancel safety
    /// Dropping it leaves the rest for the next sweep.
    pub async fn sweep_files(self) -> Result<(), StoreError> {
        match self.storage.lease("file-sweep", SWEEP_LEASE).await? {
            Some(mut lease) => Box::pin(self.files.sweep(&mut lease)).await,
            None => Ok(()),
        }
    }

    /// Claims that have had no holder for so long that nobody is about to store one.
    fn orphaned_claims(&self) -> Vec<(ClaimKey, ClaimHolder)> {
        let present: HashSet<(ClaimKey, ClaimHolder)> = self.storage.state().read(|tables| {
            let orphans = tables.claims().filter(|(key, claim)| !has_holder(tables, **key, claim));
            orphans.map(|(key, claim)| (*key, claim.holder.clone())).collect()
        });
        let now = self.clock.now();
        let mut known = self.orphans.lock();
        known.retain(|orphan, _| present.contains(orphan));
        for orphan in present {
            known.entry(orphan).or_insert(now);
        }
        let due = known.iter().filter(|(_, since)| now - **since >= CLAIM_ORPHANED_AFTER);
        due.map(|(orphan, _)| orphan.clone()).collect()
    }
}

/// Whether a sweep goes on under its lease, which is renewed. If not, another process sweeps: the rest is left to it.
pub(super) async fn goes_on(storage: &Storage, lease: &mut Lease) -> Result<bool, StorageError> {
    let is_kept = storage.renew_lease(lease).await?;
    if !is_kept {
        log::warn!(
            "a sweep was cut because another process has its lease now; that process goes on with it"
        );
    }
    Ok(is_kept)
}

/// Notes an error of one room; one that concerns all of them ends the sweep.
fn keep_first_error(
    failed: &mut Option<StorageError>,
    result: Result<(), StorageError>,
) -> Result<(), StorageError> {
    match result {
        Err(error @ StorageError::Unavailable { .. }) => Err(error),
        Err(error) => {
            log::warn!(error:err = error; "a row of a room could not be stored");
            failed.get_or_insert(error);
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Rooms and membership records older than `due` whose row is not stored.
fn unannounced(tables: &Tables, due: i64) -> (Vec<RoomId>, Vec<(RoomId, UserId)>) {
    let mut members = Vec::new();
    let mut rooms = Vec::new();
    // One stamped by a clock that was ahead would not be due for years.
    let ahead = due.saturating_add(millis(ANNOUNCE_AFTER)).saturating_add(millis(CLOCK_AHEAD_MAX));
    let is_due = |at_ms: i64| at_ms < due || at_ms > ahead;
    for (id, room) in &tables.rooms {
        if !room.announced && is_due(room.created_ms) {
            rooms.push(*id);
        }
        let of_room = tables.members(id);
        let unannounced =
            of_room.filter(|(_, member)| !member.announced && is_due(member.since_ms));
        members.extend(unannounced.map(|(user, _)| (*id, *user)));
    }
    (rooms, members)
}

/// Whether the record that a claim was made for is there and still has that name.
fn has_holder(tables: &Tables, key: ClaimKey, claim: &ClaimRecord) -> bool {
    let user = match &claim.holder {
        ClaimHolder::Room(id) => {
            let name = tables.rooms.get(id).map(|room| RoomName::parse(&room.name));
            let name = name.and_then(Result::ok);
            return name.is_some_and(|name| Claim::RoomName(&name.key()).key() == key);
        }
        ClaimHolder::User(id) => tables.users.get(id),
        ClaimHolder::Other(_) => None,
    };
    let Some(user) = user.filter(|user| !user.deleted) else { return false };
    let addresses = user.emails.iter().filter(|one| one.verified);
    Claim::Login(&user.login.to_ascii_lowercase()).key() == key
        || addresses.into_iter().any(|one| Claim::Email(&one.address.to_lowercase()).key() == key)
}
