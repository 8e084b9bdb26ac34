//! What a post may depend on is taken away by another process while it waits: nothing of it is stored behind that.

use std::convert::Infallible;

use chatto::domain::permission::{Decision, DecisionScope, Permission, Ruling};
use chatto::domain::timeline::{Effect, Fact, FactKind};
use chatto::domain::{EventId, Role, Room, RoomId, User};
use chatto::runtime::Runtime;
use chatto::service::{NewMessage, PagePosition, PostError, RowView, RowViewKind, Session};
use chatto::storage::{Draft, RecordChange, RequestId};

use super::{CutAt, NatsServer, World, run};

/// More awaits than a post has.
const AWAITS_MAX: u32 = 60;

/// Two processes on one store, and a room.
struct Scene {
    one: World,
    two: World,
    reader: Session,
    general: String,
    room: RoomId,
}

impl Scene {
    async fn open(server: &NatsServer, runtime: &Runtime) -> Self {
        let one = World::open_shared(server, runtime).await;
        let two = World::open_shared(server, runtime).await;
        let reader = one.person("reader", None).await;
        let general = one.room(&reader, "general").await;
        one.service.rooms().join(&reader, &general).await.unwrap();
        let room = general.as_str().try_into().unwrap();
        Self { one, two, reader, general, room }
    }

    async fn close(self) {
        self.one.close().await;
        self.two.close().await;
    }

    /// Cuts a post of one process at each of its awaits, where it is checked and waits somewhere on its way.
    /// Then `take` takes something away on the other process and stores a row behind that, and the post goes on:
    /// it is stored before that row, or rejected.
    async fn cut_everywhere(
        &self,
        take: impl AsyncFn(&Session),
        is_expected: impl Fn(&PostError) -> bool,
    ) {
        let Self { one, two, reader, general, room } = self;
        let (mut rejected, mut stored) = (0, 0);
        for left in 1..AWAITS_MAX {
            let member = one.person(&format!("member-{left}"), None).await;
            // The other process wrote last: this one must find the position of its event.
            two.storage.barrier().await.unwrap();
            // What the round before took from the room itself.
            self.change_room(|room| room.archived = false).await;
            two.service.rooms().join(&member, general).await.unwrap();
            one.storage.barrier().await.unwrap();
            let new = NewMessage { room: general, body: "late", ..NewMessage::default() };
            let mut post = Box::pin(one.service.messages().post(&member, new));
            let done = CutAt::new(&mut post, left).await;
            take(&member).await;
            two.storage.barrier().await.unwrap();
            let end = two.storage.timelines().head(room).await.unwrap().rows;
            let is_done = done.is_some();
            let result = match done {
                Some(result) => result,
                None => post.await,
            };
            match result {
                Ok(message) => {
                    let row = message.id.row();
                    assert!(row < end, "cut at await {left}: stored as row {row} behind row {end}");
                    stored += 1;
                }
                Err(error) if is_expected(&error) => rejected += 1,
                Err(error) => panic!("cut at await {left}: {error:?}"),
            }
            one.storage.barrier().await.unwrap();
            let page =
                one.service.timeline().page(reader, general, PagePosition::Newest, 100).await;
            let of_member = |row: &RowView| {
                row.actor == Some(member.user) && matches!(row.kind, RowViewKind::Message(_))
            };
            let late = page.unwrap().rows.into_iter().filter(of_member);
            let late: Vec<u32> = late.map(|row| row.id.row()).filter(|row| *row >= end).collect();
            assert!(late.is_empty(), "cut at await {left}: rows {late:?} behind row {end}");
            if is_done {
                break;
            }
        }
        assert!(rejected > 0 && stored > 0, "{rejected} posts rejected, {stored} stored");
    }

    async fn change_room(&self, change: impl Fn(&mut Room)) {
        let put = |room: Option<&Room>| -> Result<_, Infallible> {
            let mut room = room.unwrap().clone();
            change(&mut room);
            Ok(RecordChange::Put(room))
        };
        self.two.storage.state().change::<Room, _>(&self.room, put).await.unwrap();
    }

    async fn change_user(&self, member: &Session, change: impl Fn(&mut User)) {
        let put = |user: Option<&User>| -> Result<_, Infallible> {
            let mut user = user.unwrap().clone();
            change(&mut user);
            Ok(RecordChange::Put(user))
        };
        self.two.storage.state().change::<User, _>(&member.user, put).await.unwrap();
    }

    /// Stores a row of the room that is no message, as the other process.
    async fn store_fact(&self, kind: FactKind) {
        let request = RequestId::random();
        let append =
            self.two.storage.timelines().append::<Infallible>(&self.room, &request, &[], |view| {
                let id = EventId::new(view.head().rows, 0, 7);
                let effect = Effect::Fact { id, fact: Fact::new(kind) };
                Ok(Draft { actor: None, at_ms: self.two.clock.unix_ms(), effect })
            });
        append.await.unwrap();
    }
}

#[test]
fn a_post_that_was_checked_before_a_removal_is_not_stored_after_it() {
    let server = NatsServer::start();
    run(async |runtime| {
        let scene = Scene::open(&server, &runtime).await;
        let remove = async |member: &Session| {
            let removed = scene.two.service.rooms().leave(member, &scene.general).await.unwrap();
            assert!(removed);
        };
        scene.cut_everywhere(remove, |error| matches!(error, PostError::Denied)).await;
        scene.close().await;
    });
}

#[test]
fn a_post_that_was_checked_before_the_room_was_archived_is_not_stored_after_it() {
    let server = NatsServer::start();
    run(async |runtime| {
        let scene = Scene::open(&server, &runtime).await;
        let archive = async |_: &Session| {
            scene.change_room(|room| room.archived = true).await;
            scene.store_fact(FactKind::RoomArchived).await;
        };
        scene.cut_everywhere(archive, |error| matches!(error, PostError::Archived)).await;
        scene.close().await;
    });
}

/// What decides that nobody may post in a room.
fn denied(room: &str) -> Decision {
    Decision {
        permission: Permission::MessagePost,
        scope: DecisionScope::Room(room.parse().unwrap()),
        ruling: Ruling::Deny,
    }
}

#[test]
fn a_post_that_was_checked_before_its_author_was_forbidden_to_post_is_not_stored_after_it() {
    let server = NatsServer::start();
    run(async |runtime| {
        let scene = Scene::open(&server, &runtime).await;
        let forbid = async |member: &Session| {
            scene.change_user(member, |user| user.decisions.push(denied(&scene.general))).await;
            scene.store_fact(FactKind::RoomUpdated).await;
        };
        scene.cut_everywhere(forbid, |error| matches!(error, PostError::Denied)).await;
        scene.close().await;
    });
}

#[test]
fn a_post_that_was_checked_before_its_author_got_a_role_that_may_not_is_not_stored_after_it() {
    let server = NatsServer::start();
    run(async |runtime| {
        let scene = Scene::open(&server, &runtime).await;
        let muted = |_: Option<&Role>| -> Result<_, Infallible> {
            let decisions = vec![denied(&scene.general)];
            Ok(RecordChange::Put(Role { name: "muted".to_owned(), decisions, ..Role::default() }))
        };
        scene.two.storage.state().change::<Role, _>("muted", muted).await.unwrap();
        let assign = async |member: &Session| {
            scene.change_user(member, |user| user.roles.push("muted".to_owned())).await;
            scene.store_fact(FactKind::RoomUpdated).await;
        };
        scene.cut_everywhere(assign, |error| matches!(error, PostError::Denied)).await;
        scene.close().await;
    });
}

#[test]
fn a_post_that_was_checked_before_another_of_its_author_is_not_stored_after_it_in_slow_mode() {
    let server = NatsServer::start();
    run(async |runtime| {
        let scene = Scene::open(&server, &runtime).await;
        scene.change_room(|room| room.slow_mode_seconds = 60).await;
        let post = async |member: &Session| {
            let new = NewMessage { room: &scene.general, body: "first", ..NewMessage::default() };
            match scene.two.service.messages().post(member, new).await {
                // The other one was first.
                Ok(_) | Err(PostError::SlowMode) => {}
                Err(error) => panic!("{error:?}"),
            }
        };
        scene.cut_everywhere(post, |error| matches!(error, PostError::SlowMode)).await;
        scene.close().await;
    });
}
