//! Messages: posting in the contract's order of checks, reading, cursors, markers, many at once.

use std::collections::HashSet;
use std::time::Duration;

use chatto::domain::text::IdempotencyKey;
use chatto::domain::timeline::{Content, Delete, Edit, Effect};
use chatto::domain::{Room, RoomId};
use chatto::service::{
    ErrorKind, MessageView, NewMessage, PagePosition, PostError, ReadError, RowViewKind, Service,
    Session, TimelinePage,
};
use chatto::storage::{Draft, DraftView, RecordChange, RequestId};
use futures_util::future::join_all;

use super::{CutAt, NatsServer, World, run, settings};

fn text<'a>(room: &'a str, body: &'a str) -> NewMessage<'a> {
    NewMessage { room, body, ..NewMessage::default() }
}

pub(crate) async fn post(
    service: &Service,
    session: &Session,
    room: &str,
    body: &str,
) -> MessageView {
    service.messages().post(session, text(room, body)).await.unwrap()
}

fn bodies(page: &TimelinePage) -> Vec<String> {
    page.rows
        .iter()
        .filter_map(|row| match &row.kind {
            RowViewKind::Message(message) => message.body.clone(),
            _ => None,
        })
        .collect()
}

/// A server with two members of `general`.
pub(crate) async fn two(
    server: &NatsServer,
    runtime: &chatto::runtime::Runtime,
) -> (World, Session, Session, String) {
    members(World::start(server, runtime).await).await
}

pub(crate) async fn members(world: World) -> (World, Session, Session, String) {
    let (ada, bob) = (world.person("ada", None).await, world.person("bob", None).await);
    let general = world.room(&ada, "general").await;
    for session in [&ada, &bob] {
        world.service.rooms().join(session, &general).await.unwrap();
    }
    (world, ada, bob, general)
}

fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::parse(text).unwrap()
}

#[test]
fn what_is_posted_is_read_by_members_in_another_process_too() {
    let server = NatsServer::start();
    run(async |runtime| {
        let (world, ada, bob, general) = two(&server, &runtime).await;
        let first = post(&world.service, &ada, &general, "hello **world**").await;
        assert_eq!(first.body.as_deref(), Some("hello **world**"));
        let reply = NewMessage { in_reply_to: first.id.as_str(), ..text(&general, "hi") };
        let second = world.service.messages().post(&bob, reply).await.unwrap();
        assert_eq!(second.in_reply_to, Some(first.id));
        let got =
            world.service.timeline().message(&bob, &general, first.id.as_str()).await.unwrap();
        assert_eq!(got, first);
        let page =
            world.service.timeline().page(&bob, &general, PagePosition::Newest, 0).await.unwrap();
        assert_eq!(bodies(&page), ["hello **world**", "hi"]);
        assert_eq!(page.users.len(), 2);
        world.close().await;

        let again = World::open(&server, &runtime, settings()).await;
        let page =
            again.service.timeline().page(&ada, &general, PagePosition::Newest, 0).await.unwrap();
        assert_eq!(bodies(&page), ["hello **world**", "hi"]);
        again.close().await;
    });
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of all checks")]
fn the_checks_come_in_the_order_of_the_contract() {
    let server = NatsServer::start();
    run(async |runtime| {
        let (world, ada, _, general) = two(&server, &runtime).await;
        let service = &world.service;
        let eve = world.person("eve", None).await;
        let news = world.room(&ada, "announcements").await;
        let message = post(service, &ada, &general, "x").await.id.to_string();
        let page = service.timeline().page(&ada, &general, PagePosition::Newest, 0).await.unwrap();
        let joined = page.rows[1].id.to_string();
        let eleven = vec!["A00000000000000".to_owned(); 11];
        let long = "x".repeat(10_001);
        let base = text(&general, "x");
        let cases: Vec<(&str, &Session, NewMessage<'_>, ErrorKind)> = vec![
            ("unknown room", &ada, text("R00000000000000", ""), ErrorKind::NotFound),
            ("no id", &ada, text("x", ""), ErrorKind::NotFound),
            ("not a member, body empty", &eve, text(&general, ""), ErrorKind::PermissionDenied),
            ("empty body", &ada, text(&general, " \n"), ErrorKind::InvalidArgument),
            ("empty body before rights", &ada, text(&news, ""), ErrorKind::InvalidArgument),
            ("too long", &ada, text(&general, &long), ErrorKind::InvalidArgument),
            (
                "eleven files",
                &ada,
                NewMessage { attachments: &eleven, ..base },
                ErrorKind::InvalidArgument,
            ),
            (
                "echo without thread",
                &ada,
                NewMessage { also_send_to_channel: true, ..base },
                ErrorKind::InvalidArgument,
            ),
            (
                "thread in a thread",
                &ada,
                NewMessage { create_thread: true, thread_root: &message, ..base },
                ErrorKind::InvalidArgument,
            ),
            (
                "unknown root",
                &ada,
                NewMessage { thread_root: "E00000000000000", ..base },
                ErrorKind::NotFound,
            ),
            (
                "root is no message",
                &ada,
                NewMessage { thread_root: &joined, ..base },
                ErrorKind::NotFound,
            ),
            (
                "threads are not served",
                &ada,
                NewMessage { thread_root: &message, ..base },
                ErrorKind::Unimplemented,
            ),
            (
                "unknown reply",
                &ada,
                NewMessage { in_reply_to: "E00000000000000", ..base },
                ErrorKind::NotFound,
            ),
            (
                "reply to a join",
                &ada,
                NewMessage { in_reply_to: &joined, ..base },
                ErrorKind::NotFound,
            ),
            ("no right", &ada, text(&news, "x"), ErrorKind::PermissionDenied),
            (
                "reply before rights",
                &ada,
                NewMessage { room: &news, in_reply_to: "y", ..base },
                ErrorKind::NotFound,
            ),
            (
                "unknown file",
                &ada,
                NewMessage { attachments: &eleven[..1], ..base },
                ErrorKind::NotFound,
            ),
        ];
        for (name, session, new, kind) in cases {
            let error = service.messages().post(session, new).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{name}: {error:?}");
        }
        post(service, &ada, &general, &"x".repeat(10_000)).await;

        let archived = |room: Option<&Room>| -> Result<_, std::convert::Infallible> {
            Ok(RecordChange::Put(Room { archived: true, ..room.unwrap().clone() }))
        };
        world
            .storage
            .state()
            .change::<Room, _>(&general.as_str().try_into().unwrap(), archived)
            .await
            .unwrap();
        let error = service.messages().post(&ada, text(&general, "")).await.unwrap_err();
        assert!(matches!(error, PostError::Archived), "before the body");
        world.close().await;
    });
}

#[test]
fn slow_mode_delays_posts_but_not_their_repeats() {
    let server = NatsServer::start();
    run(async |runtime| {
        let (world, ada, bob, general) = two(&server, &runtime).await;
        let service = &world.service;
        let moderator = world.person("mod", Some("moderator")).await;
        service.rooms().join(&moderator, &general).await.unwrap();
        let slow = |room: Option<&Room>| -> Result<_, std::convert::Infallible> {
            Ok(RecordChange::Put(Room { slow_mode_seconds: 60, ..room.unwrap().clone() }))
        };
        world
            .storage
            .state()
            .change::<Room, _>(&general.as_str().try_into().unwrap(), slow)
            .await
            .unwrap();
        let one = key("one");
        let keyed = NewMessage { idempotency_key: Some(&one), ..text(&general, "one") };
        let first = service.messages().post(&ada, keyed).await.unwrap();
        let error = service.messages().post(&ada, text(&general, "two")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        assert_eq!(service.messages().post(&ada, keyed).await.unwrap(), first);
        let state = service.directory().room(&ada, &general).await.unwrap().state;
        let next = state.slow_mode_next_post_ms.unwrap();
        assert_eq!(next, first.created_ms + 60_000);
        post(service, &bob, &general, "others are free").await;
        for _ in 0..2 {
            post(service, &moderator, &general, "moderators too").await;
        }
        world.clock.advance(Duration::from_secs(61));
        post(service, &ada, &general, "three").await;
        world.close().await;
    });
}

#[test]
fn an_idempotency_key_returns_the_first_message_through_any_process() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::open_shared(&server, &runtime).await;
        let (world, ada, bob, general) = members(world).await;
        let other = World::open_shared(&server, &runtime).await;
        let key = key("key-1");
        let keyed = NewMessage { idempotency_key: Some(&key), ..text(&general, "once") };
        // The response is lost: the call is dropped at each of its awaits.
        for left in 0..40 {
            if CutAt::new(world.service.messages().post(&ada, keyed), left).await.is_some() {
                break;
            }
        }
        let first = world.service.messages().post(&ada, keyed).await.unwrap();
        let changed = NewMessage { body: "something else", ..keyed };
        let again = other.service.messages().post(&ada, changed).await.unwrap();
        assert_eq!(again, first);
        let theirs = world.service.messages().post(&bob, keyed).await.unwrap();
        assert_ne!(theirs.id, first.id, "a key is its user's own");
        let page =
            world.service.timeline().page(&ada, &general, PagePosition::Newest, 0).await.unwrap();
        assert_eq!(bodies(&page), ["once", "once"]);
        world.close().await;
        other.close().await;
    });
}

#[test]
fn a_repeated_key_returns_its_event_when_that_is_erased() {
    let server = NatsServer::start();
    run(async |runtime| {
        let (world, ada, bob, general) = two(&server, &runtime).await;
        let service = &world.service;
        let room: RoomId = general.as_str().try_into().unwrap();
        let append = async |effect: Effect| {
            let request = RequestId::random();
            let draft = |_: &DraftView<'_>| -> Result<_, std::convert::Infallible> {
                let (actor, at_ms) = (Some(ada.user), world.clock.unix_ms());
                Ok(Draft { actor, at_ms, effect: effect.clone() })
            };
            Box::pin(world.storage.timelines().append(&room, &request, &[], draft)).await.unwrap();
        };
        let (a, b) = (key("a"), key("b"));
        let keyed = |key| NewMessage { idempotency_key: Some(key), ..text(&general, "secret") };
        let deleted = service.messages().post(&ada, keyed(&a)).await.unwrap().id;
        let edited = service.messages().post(&ada, keyed(&b)).await.unwrap().id;
        for n in 0..300 {
            post(service, &bob, &general, &format!("between {n}")).await;
        }
        append(Effect::Delete(Delete::new(deleted))).await;
        let body = world.storage.texts().seal(&ada.user, &room, &edited, "better").await.unwrap();
        let content = Some(Content { body: Some(body), ..Content::default() });
        append(Effect::Edit(Edit { content, ..Edit::new(edited) })).await;
        post(service, &bob, &general, "after").await;
        // With its text the event goes from the journal.
        world.storage.fold_all().await.unwrap();

        let again = service.messages().post(&ada, keyed(&a)).await.unwrap();
        assert_eq!((again.id, again.body), (deleted, None));
        assert!(again.deleted_ms.is_some());
        let again = service.messages().post(&ada, keyed(&b)).await.unwrap();
        assert_eq!((again.id, again.body.as_deref()), (edited, Some("better")));
        world.close().await;
    });
}

#[test]
fn sixteen_clients_post_into_one_room_at_once_without_an_error() {
    let server = NatsServer::start();
    run(async |runtime| {
        let world = World::open_shared(&server, &runtime).await;
        let (world, ada, _, general) = members(world).await;
        let other = World::open_shared(&server, &runtime).await;
        let mut people = Vec::new();
        for n in 0..16 {
            let person = world.person(&format!("writer-{n}"), None).await;
            world.service.rooms().join(&person, &general).await.unwrap();
            people.push(person);
        }
        // As the first call of a client does there: the other process has seen that they joined.
        other.storage.barrier().await.unwrap();
        let write = async |n: usize, person: &Session| {
            // Half of them through another process.
            let service = if n.is_multiple_of(2) { &world.service } else { &other.service };
            for turn in 0..20 {
                let body = format!("{n} {turn}");
                service.messages().post(person, text(&general, &body)).await.unwrap();
            }
        };
        let writers: Vec<_> = people.iter().enumerate().map(|(n, one)| write(n, one)).collect();
        join_all(writers).await;
        // Every call of a client begins with authentication, and that with the read barrier.
        let reader = world.session("ada").await;
        assert_eq!(reader.user, ada.user);
        let mut seen: Vec<Vec<usize>> = vec![Vec::new(); 16];
        let mut cursor = None::<String>;
        loop {
            let position = cursor.as_deref().map_or(PagePosition::Newest, PagePosition::Before);
            let page =
                world.service.timeline().page(&reader, &general, position, 100).await.unwrap();
            for body in bodies(&page).iter().rev() {
                let (writer, turn) = body.split_once(' ').unwrap();
                seen[writer.parse::<usize>().unwrap()].push(turn.parse().unwrap());
            }
            if !page.has_older {
                break;
            }
            cursor = Some(page.start_cursor);
        }
        for turns in seen {
            assert_eq!(
                turns,
                (0..20).rev().collect::<Vec<_>>(),
                "each once, in the writer's order"
            );
        }
        world.close().await;
        other.close().await;
    });
}

#[test]
fn pages_windows_and_cursors() {
    let server = NatsServer::start();
    run(async |runtime| {
        let (world, ada, bob, general) = two(&server, &runtime).await;
        let service = &world.service;
        let mut ids = Vec::new();
        for n in 0..130 {
            ids.push(post(service, &ada, &general, &n.to_string()).await.id);
        }
        let read = async |position: PagePosition<'_>, limit| {
            service.timeline().page(&ada, &general, position, limit).await.unwrap()
        };
        let newest = read(PagePosition::Newest, 0).await;
        assert_eq!(newest.rows.len(), 50);
        assert!(newest.has_older && !newest.has_newer);
        assert_eq!(read(PagePosition::Newest, 10_000).await.rows.len(), 100, "clamped");
        let older = read(PagePosition::Before(&newest.start_cursor), 70).await;
        assert!(older.has_older && older.has_newer);
        let oldest = read(PagePosition::Before(&older.start_cursor), 70).await;
        assert!(!oldest.has_older && oldest.has_newer);
        let both: Vec<_> =
            [&oldest, &older, &newest].into_iter().flat_map(|page| &page.rows).collect();
        assert_eq!(both.len(), 133, "every row once");
        assert_eq!(both.iter().map(|row| row.id).collect::<HashSet<_>>().len(), 133);
        let forward = read(PagePosition::After(&oldest.end_cursor), 70).await;
        assert_eq!(forward.rows, older.rows);
        let end = read(PagePosition::After(&newest.end_cursor), 5).await;
        assert!(end.rows.is_empty() && end.start_cursor.is_empty() && end.has_older);

        for cursor in ["", "x", "AAAA", &newest.start_cursor[1..], &"A".repeat(100)] {
            let error =
                service.timeline().page(&ada, &general, PagePosition::Before(cursor), 5).await;
            assert!(matches!(error, Err(ReadError::Cursor)), "{cursor}");
        }
        let foreign = PagePosition::Before(&newest.start_cursor);
        let error = service.timeline().page(&bob, &general, foreign, 5).await;
        assert!(matches!(error, Err(ReadError::Cursor)), "another viewer's");
        let news = world.room(&ada, "announcements").await;
        let error = service.timeline().page(&ada, &news, foreign, 5).await;
        assert!(matches!(error, Err(ReadError::Cursor)), "another room's");

        let around = async |id: &str| service.timeline().window(&ada, &general, id, 10).await;
        for (place, before) in [(60, 5), (0, 3), (129, 9)] {
            let window = around(ids[place].as_str()).await.unwrap();
            assert_eq!(window.page.rows.len(), 10, "{place}");
            assert_eq!(window.target_index, before, "{place}");
            assert_eq!(window.page.rows[before].id, ids[place]);
        }
        for missing in ["", "E00000000000000", "R00000000000000"] {
            let error = around(missing).await;
            assert!(matches!(error, Err(ReadError::NotFound { .. })));
            let error = service.timeline().message(&ada, &general, missing).await;
            assert!(matches!(error, Err(ReadError::NotFound { .. })));
        }
        let join = oldest.rows[1].id.to_string();
        assert!(around(&join).await.is_ok(), "any row of the room");
        assert!(service.timeline().message(&ada, &general, &join).await.is_err(), "but no message");
        let elsewhere = service.timeline().message(&ada, &news, ids[0].as_str()).await;
        assert!(matches!(elsewhere, Err(ReadError::NotFound { .. })));
        world.close().await;
    });
}
