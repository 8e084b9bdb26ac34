//! Who is typing: published to the members of a room, never stored.

use super::coalesce::Coalescer;
use super::rights::readable_room;
use super::{ReadError, Session};
use crate::domain::{EventId, RoomId, UserId};
use crate::runtime::Clock;
use crate::storage::{EphemeralEvent, Storage};

/// Typing events.
#[derive(Clone, Copy)]
pub struct Typing<'a> {
    pub(super) storage: &'a Storage,
    pub(super) clock: &'a Clock,
    pub(super) pending: &'a Coalescer<(RoomId, Option<EventId>)>,
}

impl Typing<'_> {
    /// Publishes to the other members of a room that the viewer types; once a second over all rooms.
    ///
    /// # Errors
    /// [`ReadError::NotFound`], [`ReadError::Denied`] for others than members.
    pub async fn publish(
        self,
        session: &Session,
        room: &str,
        thread: &str,
    ) -> Result<(), ReadError> {
        let room = readable_room(self.storage, session, room)?;
        let thread = EventId::try_from(thread).ok();
        let (user, now) = (session.user, self.clock.now());
        let given = self.pending.offer(user, now, (room, thread), |_, newest| newest);
        if let Some((room, thread)) = given {
            self.storage.feed().publish(&EphemeralEvent::Typing { room, user, thread }).await?;
        }
        Ok(())
    }

    /// Publishes one that waited for its second to end; if it is lost, the next one follows soon.
    pub(super) async fn publish_pending(
        &self,
        user: UserId,
        room: RoomId,
        thread: Option<EventId>,
    ) {
        let typing = EphemeralEvent::Typing { room, user, thread };
        if let Err(error) = self.storage.feed().publish(&typing).await {
            log::debug!(error:err = error; "a typing event was lost");
        }
    }
}
