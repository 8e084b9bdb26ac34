//! Presence: who is here. Published to every process and kept in memory; PRESENCE holds it for processes
//! that start later. Several sessions of a user make one status.

use std::collections::HashMap;

use super::coalesce::Coalescer;
use super::error::StoreError;
use super::{Session, millis};
use crate::domain::{Presence, SessionPresence, UserId, UserPresence};
use crate::limits::PRESENCE_TTL;
use crate::runtime::Clock;
use crate::storage::{EphemeralEvent, Storage, StorageError};
use parking_lot::{Mutex, MutexGuard};

/// What this process knows.
#[derive(Default)]
pub(super) struct KnownPresences {
    /// What it has received: status and until when it holds, milliseconds since 1970.
    received: Mutex<HashMap<UserId, (Presence, i64)>>,
    /// What it has stored, together with what still waits to be.
    written: Mutex<HashMap<UserId, UserPresence>>,
}

/// The status that a session reports.
#[derive(Debug, Clone)]
pub(super) struct Update {
    mine: SessionPresence,
    by_hand: bool,
}

/// What was said earlier and later, in one: of each session the newest, and what was chosen by hand before
/// what came by itself.
pub(super) fn join(mut earlier: Vec<Update>, later: Vec<Update>) -> Vec<Update> {
    for update in later {
        let is_replaced = |one: &Update| {
            one.mine.session == update.mine.session && (update.by_hand || !one.by_hand)
        };
        earlier.retain(|one| !is_replaced(one));
        earlier.push(update);
    }
    earlier
}

impl KnownPresences {
    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, (Presence, i64)>> {
        self.received.lock()
    }

    fn written(&self) -> MutexGuard<'_, HashMap<UserId, UserPresence>> {
        self.written.lock()
    }

    pub(super) fn status(&self, user: &UserId, now_ms: i64) -> Presence {
        match self.lock().get(user) {
            Some((status, until_ms)) if now_ms < *until_ms => *status,
            _ => Presence::Offline,
        }
    }
}

/// The presence of users.
#[derive(Clone, Copy)]
pub struct Presences<'a> {
    pub(super) storage: &'a Storage,
    pub(super) clock: &'a Clock,
    pub(super) known: &'a KnownPresences,
    pub(super) pending: &'a Coalescer<Vec<Update>>,
}

impl Presences<'_> {
    /// Sets or refreshes the presence of the viewer's session for 60 s and returns the status that
    /// holds for the user. A status chosen by hand stays against automatic ones until ONLINE is
    /// chosen by hand or nothing is received for 60 s. A user's presence is published once a second: of what
    /// comes faster the newest status is published at the end of the second, and the result is then what this
    /// process expects to hold.
    ///
    /// # Cancel safety
    /// Dropping it may or may not have set it.
    pub async fn update(
        self,
        session: &Session,
        status: Presence,
        by_hand: bool,
    ) -> Result<Presence, StoreError> {
        let now = self.clock.unix_ms();
        let until_ms = now.saturating_add(millis(PRESENCE_TTL));
        let mine = SessionPresence { session: session.id.0, status, until_ms };
        let update = Update { mine, by_hand };
        match self.pending.offer(session.user, self.clock.now(), vec![update], join) {
            Some(updates) => self.store(&session.user, &updates).await,
            None => {
                let mut written = self.known.written();
                let record = written.entry(session.user).or_default();
                set(record, mine, by_hand, now);
                Ok(effective(record))
            }
        }
    }

    /// Stores and publishes what the sessions of a user report, in their order; returns the status that holds.
    pub(super) async fn store(
        &self,
        user: &UserId,
        updates: &[Update],
    ) -> Result<Presence, StoreError> {
        let now = self.clock.unix_ms();
        let record = self
            .storage
            .presences()
            .change(user, PRESENCE_TTL, |record| {
                for Update { mine, by_hand } in updates {
                    // The session has reached another process since.
                    let is_newer = |one: &SessionPresence| {
                        one.session == mine.session && one.until_ms > mine.until_ms
                    };
                    if !record.sessions.iter().any(is_newer) {
                        set(record, *mine, *by_hand, now);
                    }
                }
                record.clone()
            })
            .await?;
        let holds = effective(&record);
        let until_ms = updates.iter().map(|one| one.mine.until_ms).max().unwrap_or(now);
        self.known.written().insert(*user, record);
        let event = EphemeralEvent::Presence { user: *user, status: holds, until_ms };
        self.storage.feed().publish(&event).await?;
        Ok(holds)
    }

    /// The status of a user, as this process has received.
    #[must_use]
    pub fn status(&self, user: &UserId) -> Presence {
        self.known.status(user, self.clock.unix_ms())
    }

    /// Applies a published status; returns whether the status of the user changed.
    pub fn apply(&self, user: UserId, status: Presence, until_ms: i64) -> bool {
        let former = self.status(&user);
        self.known.lock().insert(user, (status, until_ms));
        former != self.status(&user)
    }

    /// Reads what is stored of everybody. What was received meanwhile is newer and stays. Answers whose status
    /// changed.
    pub async fn load(self) -> Result<Vec<UserId>, StorageError> {
        let now = self.clock.unix_ms();
        let stored = self.storage.presences().all().await?;
        let fresh = stored.into_iter().map(|(user, record)| {
            let until_ms = record.sessions.iter().map(|one| one.until_ms).max().unwrap_or_default();
            (user, (effective(&record), until_ms))
        });
        let mut fresh: HashMap<_, _> = fresh.collect();
        let mut known = self.known.lock();
        keep_newer(&known, &mut fresh);
        let status = |of: Option<&(Presence, i64)>| match of {
            Some((status, until_ms)) if now < *until_ms => *status,
            _ => Presence::Offline,
        };
        let users: std::collections::HashSet<_> = known.keys().chain(fresh.keys()).collect();
        let changed =
            users.into_iter().filter(|user| status(known.get(*user)) != status(fresh.get(*user)));
        let changed = changed.copied().collect();
        *known = fresh;
        Ok(changed)
    }

    /// Removes the users whose status has ended; returns them, and in how many milliseconds the next one ends.
    #[must_use]
    pub fn expire(&self) -> (Vec<UserId>, Option<u64>) {
        let now = self.clock.unix_ms();
        let mut known = self.known.lock();
        let ended: Vec<UserId> = known
            .iter()
            .filter(|(_, (_, until_ms))| *until_ms <= now)
            .map(|(user, _)| *user)
            .collect();
        for user in &ended {
            known.remove(user);
        }
        let holds = |record: &UserPresence| record.sessions.iter().any(|one| one.until_ms > now);
        self.known.written().retain(|_, record| holds(record));
        let next = known.values().map(|(_, until_ms)| until_ms.saturating_sub(now)).min();
        (ended, next.and_then(|ms| u64::try_from(ms).ok()))
    }
}

/// Each refresh ends later than the one before: what ends later is newer.
fn keep_newer(
    received: &HashMap<UserId, (Presence, i64)>,
    read: &mut HashMap<UserId, (Presence, i64)>,
) {
    for (user, newest) in received {
        let present = read.entry(*user).or_insert(*newest);
        if present.1 < newest.1 {
            *present = *newest;
        }
    }
}

/// Writes one session's status into a user's record.
fn set(record: &mut UserPresence, mine: SessionPresence, by_hand: bool, now: i64) {
    record.sessions.retain(|one| one.until_ms > now && one.session != mine.session);
    // Nothing was received for a while: what was chosen by hand has ended with it.
    if record.sessions.is_empty() && !by_hand && record.manual_until_ms <= now {
        record.manual = None;
    }
    if by_hand {
        record.manual = Some(mine.status).filter(|status| *status != Presence::Online);
    }
    record.manual_until_ms = mine.until_ms;
    record.sessions.push(mine);
}

/// The status that a record makes: by hand, else ONLINE where any session is, else the newest one's.
fn effective(record: &UserPresence) -> Presence {
    if let Some(manual) = record.manual {
        return manual;
    }
    let online = record.sessions.iter().any(|one| one.status == Presence::Online);
    match record.sessions.last() {
        Some(_) if online => Presence::Online,
        Some(last) => last.status,
        None => Presence::Offline,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(record: &mut UserPresence, session: u8, status: Presence, hand: bool, now: i64) {
        let mine = SessionPresence { session: [session; 16], status, until_ms: now + 60 };
        set(record, mine, hand, now);
    }

    #[test]
    fn sessions_make_one_status_and_a_choice_by_hand_stays() {
        let mut record = UserPresence::default();
        assert_eq!(effective(&record), Presence::Offline);
        update(&mut record, 1, Presence::Away, false, 0);
        assert_eq!(effective(&record), Presence::Away);
        update(&mut record, 2, Presence::Online, false, 10);
        assert_eq!(effective(&record), Presence::Online);
        // The second session ended, the first went on.
        update(&mut record, 1, Presence::Away, false, 71);
        assert_eq!(effective(&record), Presence::Away);

        update(&mut record, 1, Presence::DoNotDisturb, true, 80);
        update(&mut record, 2, Presence::Online, false, 90);
        assert_eq!(effective(&record), Presence::DoNotDisturb);
        update(&mut record, 2, Presence::Online, true, 95);
        assert_eq!(effective(&record), Presence::Online);

        update(&mut record, 1, Presence::Away, true, 100);
        update(&mut record, 1, Presence::Online, false, 200);
        assert_eq!(
            effective(&record),
            Presence::Online,
            "the choice by hand ended with the silence"
        );
    }

    #[test]
    fn reports_that_are_faster_than_their_publication_are_merged() {
        let said = |session: u8, status: Presence, by_hand| {
            let mine = SessionPresence { session: [session; 16], status, until_ms: 1 };
            Update { mine, by_hand }
        };
        let updates = [
            said(1, Presence::Away, false),
            said(1, Presence::DoNotDisturb, true),
            said(2, Presence::Away, false),
            said(1, Presence::Online, false),
            said(1, Presence::Away, false),
        ];
        let joined = updates.into_iter().fold(Vec::new(), |all, one| join(all, vec![one]));
        let seen: Vec<_> =
            joined.iter().map(|one| (one.mine.session[0], one.mine.status, one.by_hand)).collect();
        let (away, busy) = (Presence::Away, Presence::DoNotDisturb);
        assert_eq!(seen, [(1, busy, true), (2, away, false), (1, away, false)]);
        let chosen = join(joined, vec![said(1, Presence::Online, true)]);
        assert_eq!(chosen.len(), 2, "a choice by hand replaces all of its session");
    }

    #[test]
    fn what_was_received_while_the_store_was_read_is_not_replaced_by_what_was_read() {
        let user = UserId::from_number;
        let received = [(user(1), (Presence::Online, 70)), (user(2), (Presence::Away, 60))]
            .into_iter()
            .collect();
        // The first is not stored yet, the second has changed while nothing was received.
        let mut read: HashMap<_, _> = [(user(2), (Presence::Online, 65))].into_iter().collect();
        keep_newer(&received, &mut read);
        assert_eq!(read[&user(1)], (Presence::Online, 70));
        assert_eq!(read[&user(2)], (Presence::Online, 65));

        let mut read: HashMap<_, _> = [(user(1), (Presence::Away, 50))].into_iter().collect();
        keep_newer(&received, &mut read);
        assert_eq!(read[&user(1)], (Presence::Online, 70), "an older one, of a replica that lags");
    }
}
