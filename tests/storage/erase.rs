//! Deleted text is gone from the disk, not only from view.

use std::convert::Infallible;
use std::path::Path;

use chatto::domain::timeline::{Delete, Edit, Effect};
use chatto::domain::{EventId, User};
use chatto::storage::{Draft, RecordChange, RequestId, Storage};

use super::{config, content, open, post, room, run, user};
use crate::support::nats::NatsServer;

pub(crate) fn on_disk(dir: &Path, needle: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return on_disk(&path, needle);
        }
        #[expect(clippy::disallowed_methods, reason = "files of the test's own")]
        let bytes = std::fs::read(&path).unwrap_or_default();
        bytes.windows(needle.len()).any(|window| window == needle)
    })
}

async fn append(storage: &Storage, effect: Effect) {
    storage
        .timelines()
        .append::<Infallible>(&room(1), &RequestId::random(), &[], |_| {
            Ok(Draft { actor: Some(user(1)), at_ms: 1, effect: effect.clone() })
        })
        .await
        .unwrap();
}

async fn post_text(storage: &Storage, body: &str) -> EventId {
    let appended = storage
        .timelines()
        .append::<Infallible>(&room(1), &RequestId::random(), &[], |view| {
            Ok(post(view.head(), user(1), body))
        })
        .await
        .unwrap();
    let Effect::Post(post) = appended.event.effect else { panic!() };
    post.id
}

#[test]
fn deleted_and_edited_text_is_erased_from_journal_and_pages() {
    let mut server = NatsServer::start();
    run(async |runtime| {
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        let folded = post_text(&storage, "needle-folded-before-deletion").await;
        let edited = post_text(&storage, "needle-before-the-edit").await;
        post_text(&storage, "needle-that-stays").await;
        storage.fold_all().await.unwrap();
        let fresh = post_text(&storage, "needle-deleted-before-any-fold").await;
        assert!(on_disk(&server.store_dir(), b"needle-folded-before-deletion"));
        for id in [folded, fresh] {
            append(&storage, Effect::Delete(Delete::new(id))).await;
        }
        let content = Some(content("needle-after-the-edit"));
        append(&storage, Effect::Edit(Edit { content, ..Edit::new(edited) })).await;
        storage.fold_all().await.unwrap();
        storage.close().await;
    });
    server.stop();
    let store = server.store_dir();
    for gone in [
        "needle-folded-before-deletion",
        "needle-deleted-before-any-fold",
        "needle-before-the-edit",
    ] {
        assert!(!on_disk(&store, gone.as_bytes()), "{gone} is still on disk");
    }
    for kept in ["needle-that-stays", "needle-after-the-edit"] {
        assert!(on_disk(&store, kept.as_bytes()), "{kept} is lost");
    }
}

#[test]
fn shredded_keys_are_gone_and_texts_unreadable() {
    let server = NatsServer::start();
    run(async |runtime| {
        let storage = open(&server.url(), &runtime, config(None)).await.unwrap();
        let (anna, lobby, row) = (user(1), room(1), EventId::new(0, 0, 7));
        let put = |deleted| {
            move |_: Option<&User>| -> Result<_, Infallible> {
                Ok(RecordChange::Put(User { deleted, ..User::new(anna) }))
            }
        };
        storage.state().change::<User, _>(&anna, put(false)).await.unwrap();
        let sealed = storage.texts().seal(&anna, &lobby, &row, "a secret text").await.unwrap();
        let opened = storage.texts().unseal(&anna, &lobby, &row, &sealed).await.unwrap();
        assert_eq!(opened.as_deref(), Some("a secret text"));
        let another = EventId::new(1, 0, 7);
        let elsewhere = storage.texts().unseal(&anna, &lobby, &another, &sealed).await.unwrap();
        assert_eq!(elsewhere, None, "a body is bound to its place");
        let subject = format!("$KV.ENCRYPTION_KEYS.user.{anna}.{}", sealed.key_id);
        assert!(on_disk(&server.store_dir(), subject.as_bytes()));
        storage.user_keys().shred(&anna).await.unwrap();
        let opened = storage.texts().unseal(&anna, &lobby, &row, &sealed).await.unwrap();
        assert_eq!(opened, None);
        storage.state().change::<User, _>(&anna, put(true)).await.unwrap();
        assert!(storage.texts().seal(&anna, &lobby, &row, "again").await.is_err());
        storage.close().await;
    });
}
