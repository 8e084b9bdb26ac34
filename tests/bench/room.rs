//! One room of the generated store: the room itself, its members, its messages.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use chatto::domain::text::RoomName;
use chatto::domain::timeline::{Content, Effect, Fact, FactKind, Post};
use chatto::domain::{GroupId, Membership, Room, RoomId, UserId};
use chatto::runtime::Scope;
use chatto::storage::{Claim, Draft, DraftView, RecordChange, RequestId, Sealer};
use fastrand::Rng;

use crate::content::{message_id, message_text, replies, seed};
use crate::fill::{FilledRoom, HISTORY_MS};
use crate::store::Store;

/// Rooms that everybody is a member of; of the others a user is in every fourth.
const UNIVERSAL_ROOMS: usize = 10;
/// Calls at a time in one room: the next is drafted while the last is being confirmed.
pub(crate) const LANES: usize = 4;

fn is_member(user: usize, room: usize) -> bool {
    room < UNIVERSAL_ROOMS || (user + room).is_multiple_of(4)
}

/// A user with the key that seals its texts.
pub(crate) struct Author {
    pub(crate) id: UserId,
    pub(crate) sealer: Sealer,
}

/// What one room is filled with.
#[derive(Clone)]
pub(crate) struct RoomFill {
    pub(crate) store: Store,
    pub(crate) number: usize,
    pub(crate) messages: u32,
    pub(crate) authors: Arc<[Author]>,
    pub(crate) begin_ms: i64,
}

impl RoomFill {
    /// Creates the room with its members and the rows about them.
    pub(crate) async fn make(&self, group: GroupId) -> FilledRoom {
        let storage = &self.store.storage;
        let mut numbers = Rng::with_seed(self.begin_ms.unsigned_abs() ^ seed(self.number, 0));
        let mut bits = [0; 16];
        numbers.fill(&mut bits);
        let id = RoomId::from_random(bits);
        let name = RoomName::parse(&format!("bench-{:03}", self.number)).unwrap();
        storage.state().claim(Claim::RoomName(&name.key()), id).await.unwrap();
        let room = Room {
            name: name.as_str().to_owned(),
            group: Some(group),
            universal: self.number < UNIVERSAL_ROOMS,
            created_ms: self.begin_ms,
            creator: Some(self.authors[0].id),
            announced: true,
            ..Room::new(id)
        };
        storage
            .state()
            .change::<Room, _>(&id, |_| -> Result<_, Infallible> {
                Ok(RecordChange::Put(room.clone()))
            })
            .await
            .unwrap();
        self.append_fact(&id, self.authors[0].id, FactKind::RoomCreated, 0).await;
        let members: Vec<usize> =
            (0..self.authors.len()).filter(|user| is_member(*user, self.number)).collect();
        if !room.universal {
            for user in &members {
                self.join(&id, self.authors[*user].id).await;
            }
        }
        let first_row = storage.timelines().head(&id).await.unwrap().rows;
        FilledRoom {
            id: id.as_str().to_owned(),
            number: self.number,
            first_row,
            messages: self.messages,
            members,
        }
    }

    async fn join(&self, room: &RoomId, user: UserId) {
        let member =
            Membership { since_ms: self.begin_ms, announced: true, ..Membership::new(*room, user) };
        let storage = &self.store.storage;
        storage
            .state()
            .change::<Membership, _>(&(*room, user), |_| -> Result<_, Infallible> {
                Ok(RecordChange::Put(member.clone()))
            })
            .await
            .unwrap();
        self.append_fact(
            room,
            user,
            FactKind::Joined,
            storage.state().member_revision(room, &user),
        )
        .await;
    }

    async fn append_fact(&self, room: &RoomId, user: UserId, kind: FactKind, member_revision: u64) {
        let draft = |view: &DraftView<'_>| -> Result<_, Infallible> {
            let id = message_id(self.number, view.head().rows, 0);
            let effect = Effect::Fact { id, fact: Fact { member_revision, ..Fact::new(kind) } };
            Ok(Draft { actor: Some(user), at_ms: self.begin_ms, effect })
        };
        let request = RequestId::random();
        Box::pin(self.store.storage.timelines().append(room, &request, &[], draft)).await.unwrap();
    }

    /// Starts the tasks that post its messages.
    pub(crate) fn post(&self, scope: &Scope, filled_room: &FilledRoom) {
        let left = Arc::new(AtomicU32::new(self.messages));
        for _ in 0..LANES {
            let (room, filled_room, left) = (self.clone(), filled_room.clone(), Arc::clone(&left));
            let lane = async move {
                let take = |left: u32| left.checked_sub(1);
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                    room.post_one(&filled_room).await;
                }
            };
            scope.spawn("room", lane).unwrap();
        }
    }

    /// Posts what the room's next row is to say, and the replies to it.
    async fn post_one(&self, filled_room: &FilledRoom) {
        let row = self.append(filled_room, None).await;
        for reply in 1..=replies(self.number, row) {
            self.append(filled_room, Some((row, reply))).await;
        }
    }

    /// Appends a root message, or a reply to a root message; answers the row of the root.
    async fn append(&self, filled_room: &FilledRoom, reply: Option<(u32, u32)>) -> u32 {
        let room = RoomId::try_from(filled_room.id.as_str()).unwrap();
        let mut taken = 0;
        let draft = |view: &DraftView<'_>| -> Result<_, Infallible> {
            let (row, reply) = reply.unwrap_or((view.head().rows, 0));
            taken = row;
            let id = message_id(self.number, row, reply);
            let author = &self.authors[filled_room.author(row, reply)];
            let text = message_text(self.number, row, reply);
            let body = Some(author.sealer.seal(&room, &id, &text));
            let post = Post::new(id, Content { body, ..Content::default() });
            let done = i64::from(row - filled_room.first_row);
            let at_ms = self.begin_ms + HISTORY_MS / i64::from(self.messages) * done;
            Ok(Draft { actor: Some(author.id), at_ms, effect: Effect::Post(post) })
        };
        let request = RequestId::random();
        Box::pin(self.store.storage.timelines().append(&room, &request, &[], draft)).await.unwrap();
        taken
    }
}
