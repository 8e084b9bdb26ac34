//! Posting messages, with the checks in the contract's order (behaviour 6.1).

use super::attachments::Attachments;
use super::error::{StoreError, flatten};
use super::rights::{ViewerRights, is_direct};
use super::timeline::Timeline;
use super::{ErrorKind, FileView, MessageView, Session, millis};
use crate::crypto::random;
use crate::domain::permission::Permission;
use crate::domain::text::{Body, BodyError, IdempotencyKey};
use crate::domain::timeline::{Content, Effect, Post, Row, RowKind};
use crate::domain::{AssetId, EventId, RoomId, UserId};
use crate::limits::{ATTACHMENTS_MAX, CLOCK_AHEAD_MAX, IDEMPOTENCY_WINDOW, REPEATED_ROWS_MAX};
use crate::runtime::Clock;
use crate::storage::{Appended, Draft, DraftView, RequestId, RoomHead, Storage, StorageError};

/// A message to be posted.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewMessage<'a> {
    pub room: &'a str,
    pub body: &'a str,
    pub attachments: &'a [String],
    /// The thread to reply in; empty: none.
    pub thread_root: &'a str,
    /// The message it replies to; empty: none.
    pub in_reply_to: &'a str,
    /// A reply is shown in the room too.
    pub also_send_to_channel: bool,
    /// Makes it the root of a thread at once.
    pub create_thread: bool,
    /// The header `Idempotency-Key`.
    pub idempotency_key: Option<&'a IdempotencyKey>,
}

/// A message was not posted.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    #[error("room not found")]
    RoomNotFound,
    /// Not a member, or the right is missing.
    #[error("permission denied")]
    Denied,
    #[error("room is archived")]
    Archived,
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("a message has at most {ATTACHMENTS_MAX} attachments")]
    TooManyAttachments,
    #[error("the thread options contradict each other")]
    ThreadOptions,
    #[error("direct messages have no threads")]
    Direct,
    /// The thread root, or the message that is replied to, does not exist.
    #[error("message not found")]
    MessageNotFound,
    #[error("attachment not found")]
    AttachmentNotFound,
    /// Not complete, of another room or somebody else, or attached already.
    #[error("the attachment cannot be used here")]
    AttachmentUnusable,
    #[error("slow mode: wait before posting again")]
    SlowMode,
    #[error("threads are not supported yet")]
    ThreadsNotServed,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PostError {
    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::RoomNotFound | Self::MessageNotFound | Self::AttachmentNotFound => {
                ErrorKind::NotFound
            }
            Self::Denied => ErrorKind::PermissionDenied,
            Self::Archived | Self::Direct | Self::AttachmentUnusable => {
                ErrorKind::FailedPrecondition
            }
            Self::Body(_) | Self::TooManyAttachments | Self::ThreadOptions => {
                ErrorKind::InvalidArgument
            }
            Self::SlowMode => ErrorKind::ResourceExhausted,
            Self::ThreadsNotServed => ErrorKind::Unimplemented,
            Self::Store(error) => error.kind(),
        }
    }
}

impl From<StorageError> for PostError {
    fn from(error: StorageError) -> Self {
        Self::Store(error.into())
    }
}

/// What was found out about a room before posting.
struct Target {
    room: RoomId,
    is_direct: bool,
    may_post: bool,
    may_attach: bool,
    /// Milliseconds between posts of this member; 0: none.
    slow_mode_ms: i64,
}

/// A message that passed every check.
struct Checked {
    request: RequestId,
    body: Body,
    in_reply_to: Option<EventId>,
    /// Reserved for this request.
    attachments: Vec<FileView>,
}

/// Posting messages.
#[derive(Clone, Copy)]
pub struct Messages<'a> {
    pub(super) storage: &'a Storage,
    pub(super) clock: &'a Clock,
    pub(super) timeline: Timeline<'a>,
    pub(super) attachments: Attachments<'a>,
}

impl Messages<'_> {
    /// Posts a message. With an idempotency key, a repetition within two minutes returns the message
    /// that the first call stored.
    ///
    /// # Cancel safety
    /// After dropping it the message may or may not be stored; repeat the call with the same key to find out.
    pub async fn post(
        self,
        session: &Session,
        new: NewMessage<'_>,
    ) -> Result<MessageView, PostError> {
        let request = request_id(session, &new)?;
        let target = self.target(session, &new)?;
        let body = Body::parse(new.body, !new.attachments.is_empty())?;
        if new.attachments.len() > ATTACHMENTS_MAX {
            return Err(PostError::TooManyAttachments);
        }
        self.check_threads(&target, &new).await?;
        let in_reply_to = self.replied_to(target.room, new.in_reply_to).await?;
        if !target.may_post || (!new.attachments.is_empty() && !target.may_attach) {
            return Err(PostError::Denied);
        }
        if new.create_thread {
            return Err(PostError::ThreadsNotServed);
        }
        let refused = match self.store(session, &new, &target, (&request, body, in_reply_to)).await
        {
            Ok(message) => return Ok(message),
            Err(refused @ (PostError::SlowMode | PostError::AttachmentUnusable))
                if new.idempotency_key.is_some() =>
            {
                refused
            }
            // Its event had the text of a message that was deleted or edited since.
            Err(PostError::Store(StoreError(StorageError::Erased))) => PostError::MessageNotFound,
            Err(error) => return Err(error),
        };
        let repeated = Box::pin(self.repeated(session, target.room, &request)).await?;
        repeated.ok_or(refused)
    }

    /// Checks 9 and 10, and the post itself.
    async fn store(
        &self,
        session: &Session,
        new: &NewMessage<'_>,
        target: &Target,
        (request, body, in_reply_to): (&RequestId, Body, Option<EventId>),
    ) -> Result<MessageView, PostError> {
        let mut attachments = Vec::new();
        if !new.attachments.is_empty() {
            let (head, now) =
                (self.storage.timelines().head(&target.room).await?, self.clock.unix_ms());
            if next_post_ms(&head, &session.user, target.slow_mode_ms, now).is_some() {
                return Err(PostError::SlowMode);
            }
            let reserving =
                self.attachments.reserve(session, target.room, new.attachments, request);
            attachments = Box::pin(reserving).await?;
        }
        let checked = Checked { request: request.clone(), body, in_reply_to, attachments };
        match Box::pin(self.append(session, new, &checked)).await {
            Ok((appended, drafted)) => {
                let place = (target.room, session.user);
                Box::pin(self.posted(place, checked, appended, drafted)).await
            }
            // It may be stored: the sweep finds out.
            Err(error @ PostError::Store(StoreError(StorageError::Unavailable { .. }))) => {
                Err(error)
            }
            Err(error) => {
                self.attachments.resolve_all(&checked.attachments, request, None).await;
                Err(error)
            }
        }
    }

    /// Checks 1 and 2, and what the later checks need from the same moment.
    fn target(&self, session: &Session, new: &NewMessage<'_>) -> Result<Target, PostError> {
        let id = RoomId::try_from(new.room).map_err(|_| PostError::RoomNotFound)?;
        self.storage.state().read(|tables| {
            let room = tables.rooms.get(&id).ok_or(PostError::RoomNotFound)?;
            let access = ViewerRights::of(tables, session.user);
            if !access.is_member(tables, id, room) {
                return Err(PostError::Denied);
            }
            if room.archived {
                return Err(PostError::Archived);
            }
            let bypasses = [Permission::RoomManage, Permission::MessageManage]
                .into_iter()
                .any(|permission| access.can(permission, id, room));
            let slow = if bypasses || is_direct(room) { 0 } else { room.slow_mode_seconds };
            Ok(Target {
                room: id,
                is_direct: is_direct(room),
                may_post: access.can(Permission::MessagePost, id, room),
                may_attach: access.can(Permission::MessageAttach, id, room),
                slow_mode_ms: i64::from(slow) * 1000,
            })
        })
    }

    /// Checks 4 to 6.
    async fn check_threads(&self, target: &Target, new: &NewMessage<'_>) -> Result<(), PostError> {
        let in_thread = !new.thread_root.is_empty();
        if (new.also_send_to_channel && !in_thread) || (new.create_thread && in_thread) {
            return Err(PostError::ThreadOptions);
        }
        if target.is_direct && (in_thread || new.create_thread) {
            return Err(PostError::Direct);
        }
        if in_thread {
            let root = self.message_row(target.room, new.thread_root).await?;
            let is_root = root.is_some_and(|(id, _)| id.reply() == 0);
            return Err(if is_root {
                PostError::ThreadsNotServed
            } else {
                PostError::MessageNotFound
            });
        }
        Ok(())
    }

    /// Check 7: the message replied to; its id is stored as sent.
    async fn replied_to(&self, room: RoomId, id: &str) -> Result<Option<EventId>, PostError> {
        if id.is_empty() {
            return Ok(None);
        }
        let found = self.message_row(room, id).await?;
        found.map(|(id, _)| Some(id)).ok_or(PostError::MessageNotFound)
    }

    async fn message_row(
        &self,
        room: RoomId,
        id: &str,
    ) -> Result<Option<(EventId, Row)>, StorageError> {
        let Ok(id) = EventId::try_from(id) else { return Ok(None) };
        let row = self.storage.timelines().row(&room, &id).await?;
        let is_message = |row: &Row| matches!(row.kind, RowKind::Message(_) | RowKind::Echo(_));
        Ok(row.filter(is_message).map(|row| (id, row)))
    }

    async fn append(
        &self,
        session: &Session,
        new: &NewMessage<'_>,
        checked: &Checked,
    ) -> Result<(Appended, Option<EventId>), PostError> {
        let Checked { request, body, in_reply_to, attachments } = checked;
        let room = self.target(session, new)?.room;
        let sealer = Box::pin(self.storage.texts().sealer(&session.user)).await?;
        let attachments: Vec<AssetId> = attachments.iter().map(|file| file.id).collect();
        let mut drafted = None;
        let draft = |view: &DraftView<'_>| {
            let head = view.head();
            // What held before the room's queue may be over: a removal whose row lies before this position is
            // in the tables by now.
            let target = self.target(session, new)?;
            if !target.may_post || (!attachments.is_empty() && !target.may_attach) {
                return Err(PostError::Denied);
            }
            let now = self.clock.unix_ms();
            if next_post_ms(head, &session.user, target.slow_mode_ms, now).is_some() {
                return Err(PostError::SlowMode);
            }
            let id = EventId::new(head.rows, 0, u32::from_be_bytes(random()));
            drafted = Some(id);
            let body = Some(sealer.seal(&room, &id, body.as_str()));
            let post = Post {
                in_reply_to: *in_reply_to,
                request_key: request.as_str().to_owned(),
                ..Post::new(id, Content { body, attachments: attachments.clone() })
            };
            Ok(Draft { actor: Some(session.user), at_ms: now, effect: Effect::Post(post) })
        };
        let appended = Box::pin(self.storage.timelines().append(&room, request, &[], draft)).await;
        let appended = appended.map_err(flatten)?;
        Ok((appended, drafted))
    }

    /// The result: a message of this very call as it was sent, a repeated one as it is now.
    async fn posted(
        &self,
        (room, author): (RoomId, UserId),
        checked: Checked,
        appended: Appended,
        drafted: Option<EventId>,
    ) -> Result<MessageView, PostError> {
        let event = appended.event;
        let Effect::Post(Post { id, .. }) = event.effect else {
            return Err(PostError::MessageNotFound);
        };
        self.attachments.resolve_all(&checked.attachments, &checked.request, Some(id)).await;
        // Whether or not the store reports a repetition: only what this call drafted has its text.
        if drafted != Some(id) {
            let stored = self.timeline.stored_message(room, &id).await?;
            return stored.ok_or(PostError::MessageNotFound);
        }
        Ok(MessageView {
            id,
            room,
            created_ms: event.at_ms,
            author,
            body: Some(checked.body.as_str().to_owned()),
            updated_ms: None,
            in_reply_to: checked.in_reply_to,
            thread_root: None,
            attachments: checked.attachments,
            deleted_ms: None,
        })
    }

    /// The message that an earlier call with the same key stored, as it is now, where it cannot be found out
    /// by posting: slow mode stands in the way, or the event is erased.
    async fn repeated(
        &self,
        session: &Session,
        room: RoomId,
        request: &RequestId,
    ) -> Result<Option<MessageView>, StorageError> {
        let since = self.clock.unix_ms().saturating_sub(millis(IDEMPOTENCY_WINDOW));
        let timelines = self.storage.timelines();
        let row = timelines
            .message_of_request(&room, request.as_str(), since, REPEATED_ROWS_MAX)
            .await?
            .filter(|row| row.actor == Some(session.user));
        match row {
            Some(row) => self.timeline.stored_message(room, &row.id).await,
            None => Ok(None),
        }
    }
}

/// When somebody may post again in a room with slow mode, milliseconds since 1970; `None`: now.
/// `interval_ms`: between posts of one member.
pub(super) fn next_post_ms(
    head: &RoomHead,
    user: &UserId,
    interval_ms: i64,
    now: i64,
) -> Option<i64> {
    let posted = head.newest_by(user).filter(|_| interval_ms > 0)?.posted_ms;
    if posted > now.saturating_add(millis(CLOCK_AHEAD_MAX)) {
        // By a clock that was ahead: when it really was is not known, and that time may be years away.
        return None;
    }
    let next = posted.min(now).saturating_add(interval_ms);
    (next > now).then_some(next)
}

fn request_id(session: &Session, new: &NewMessage<'_>) -> Result<RequestId, PostError> {
    let Some(key) = new.idempotency_key else { return Ok(RequestId::random()) };
    let room = RoomId::try_from(new.room).map_err(|_| PostError::RoomNotFound)?;
    Ok(RequestId::keyed(&session.user, "CreateMessage", &room, key.as_str()))
}
