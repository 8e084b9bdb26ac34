//! Transcripts of rooms with everything that a timeline has.

use chatto::backup::transcript::{Transcript, TranscriptFormat};
use chatto::domain::timeline::{Content, Delete, Effect, Fact, FactKind, Post, Sealed};
use chatto::domain::{EventId, User, UserId};
use chatto::storage::{Draft, RequestId, Storage};

use super::{config, open, room, run, user};
use crate::support::nats::NatsServer;

const AT: i64 = 1_795_240_800_000;

async fn append(storage: &Storage, author: Option<UserId>, effect: Effect) {
    let mut effect = Some(effect);
    let (room, request) = (room(1), RequestId::random());
    let appended = storage.timelines().append(&room, &request, &[], |_| {
        let effect = effect.take().unwrap();
        Ok::<_, std::convert::Infallible>(Draft { actor: author, at_ms: AT, effect })
    });
    Box::pin(appended).await.unwrap();
}

async fn sealed(storage: &Storage, author: UserId, id: EventId, text: &str) -> Content {
    let body: Sealed = storage.texts().seal(&author, &room(1), &id, text).await.unwrap();
    Content { body: Some(body), ..Content::default() }
}

#[test]
fn replies_follow_their_root_and_what_cannot_be_read_is_named() {
    let server = NatsServer::start();
    run(|runtime| async move {
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        for (n, login, display_name) in [(1, "anna", "Anna"), (2, "ben", "")] {
            let names = (login.to_owned(), display_name.to_owned());
            let person = User { login: names.0, display_name: names.1, ..User::new(user(n)) };
            storage.state().put_if_absent(&user(n), &person).await.unwrap();
        }
        let root = EventId::new(0, 0, 7);
        let text = sealed(&storage, user(1), root, "first\nline two \u{1b}[2J").await;
        append(&storage, Some(user(1)), Effect::Post(Post::new(root, text))).await;
        let last = EventId::new(1, 0, 7);
        let text = sealed(&storage, user(2), last, "last").await;
        append(&storage, Some(user(2)), Effect::Post(Post::new(last, text))).await;
        // More replies than one read returns.
        for number in 1..=300 {
            let id = EventId::new(0, number, 5);
            let text = sealed(&storage, user(2), id, &format!("reply {number}")).await;
            append(&storage, Some(user(2)), Effect::Post(Post::new(id, text))).await;
        }
        let foreign = Sealed { key_id: "0".repeat(16), ..Sealed::default() };
        let foreign = Content { body: Some(foreign), ..Content::default() };
        let id = EventId::new(2, 0, 7);
        append(&storage, Some(user(1)), Effect::Post(Post::new(id, foreign))).await;
        let deleted = Delete::new(EventId::new(0, 2, 5));
        append(&storage, Some(user(2)), Effect::Delete(deleted)).await;
        let joined = Fact::new(FactKind::Joined);
        let id = EventId::new(3, 0, 7);
        append(&storage, Some(user(2)), Effect::Fact { id, fact: joined }).await;

        let text = Transcript::new(&storage, room(1), TranscriptFormat::Text, Vec::new());
        let (text, count) = Box::pin(text.write()).await.unwrap();
        assert_eq!((count.rows, count.unreadable), (304, 1));
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 305);
        let name = |n: usize| format!("2026-11-21 06:00:00  {}", ["Anna (anna)", "ben"][n - 1]);
        assert_eq!(lines[0], format!("{}: first", name(1)));
        assert_eq!(lines[1], "  | line two \u{fffd}[2J");
        assert_eq!(lines[2], format!("    {}: reply 1", name(2)));
        assert_eq!(lines[3], format!("    {}: [deleted]", name(2)));
        assert_eq!(lines[301], format!("    {}: reply 300", name(2)));
        assert_eq!(lines[302], format!("{}: last", name(2)));
        assert_eq!(lines[303], format!("{}: [unreadable: its key is missing]", name(1)));
        assert_eq!(lines[304], format!("{} joined", name(2)));

        let json = Transcript::new(&storage, room(1), TranscriptFormat::Json, Vec::new());
        let (json, _) = Box::pin(json.write()).await.unwrap();
        let rows = String::from_utf8(json).unwrap();
        let rows: Vec<serde_json::Value> =
            rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows[0]["text"], "first\nline two \u{1b}[2J");
        assert_eq!((&rows[1]["thread"], &rows[2]["deleted"]), (&rows[0]["id"], &true.into()));
        assert_eq!(
            (&rows[302]["unreadable"], &rows[303]["kind"]),
            (&true.into(), &"joined".into())
        );
        storage.close().await;
    });
}
