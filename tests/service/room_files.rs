//! The list of a room's files.

use std::convert::Infallible;

use chatto::domain::timeline::RowKind;
use chatto::domain::{AssetId, EventId, File, FileState};
use chatto::service::{
    ErrorKind, FileReader, FileView, NewMessage, PageRequest, RoomFileView, Service, Session,
};
use chatto::storage::RecordChange;

use super::file_sweep::damage;
use super::files::upload;
use super::messages::two;
use super::{CutAt, NatsServer, World, run};

/// Posts a message with these files.
async fn post(service: &Service, session: &Session, room: &str, files: &[&FileView]) -> String {
    let ids: Vec<String> = files.iter().map(|file| file.id.to_string()).collect();
    let new = NewMessage { room, attachments: &ids, ..NewMessage::default() };
    service.messages().post(session, new).await.unwrap().id.to_string()
}

fn entries(items: &[RoomFileView]) -> Vec<(String, FileView)> {
    items.iter().map(|item| (item.message.to_string(), item.file.clone())).collect()
}

#[test]
fn the_files_of_a_room_are_listed_newest_message_first() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let (world, ada, bob, general) = two(&server, &runtime).await;
        let service = &world.service;
        let mut files = Vec::new();
        for name in 0..8_u8 {
            files.push(upload(&[service], &ada, &general, &[name]).await);
        }
        let (first, rest) = files.split_first().unwrap();
        // In another order than they were uploaded in; the last one has no message.
        let older = post(service, &ada, &general, &[&rest[3], &rest[0], &rest[2]]).await;
        let deleted = post(service, &ada, &general, &[&rest[4]]).await;
        let newer = post(service, &ada, &general, &[&rest[5], first, &rest[1]]).await;
        service.deletions().message(&ada, &general, &deleted).await.unwrap();
        let mut wanted: Vec<(String, FileView)> = Vec::new();
        wanted.extend([&rest[5], first, &rest[1]].map(|file| (newer.clone(), file.clone())));
        wanted.extend([&rest[3], &rest[0], &rest[2]].map(|file| (older.clone(), file.clone())));
        let list = async |session: &Session, limit, offset| {
            service.room_files().list(session, &general, PageRequest { limit, offset }).await
        };
        let all = list(&bob, 0, 0).await.unwrap();
        assert_eq!((entries(&all.items), all.total, all.has_more), (wanted.clone(), 6, false));
        // Pages may end within a message.
        for limit in 1..6 {
            let mut seen = Vec::new();
            loop {
                let page = list(&bob, limit, seen.len()).await.unwrap();
                assert_eq!(page.total, 6);
                seen.extend(entries(&page.items));
                assert_eq!(page.has_more, seen.len() < 6);
                if !page.has_more {
                    break;
                }
            }
            assert_eq!(seen, wanted, "{limit}");
        }
        assert_eq!(list(&bob, 5, 6).await.unwrap().items, []);
        // Its message is stored and the file is not yet noted as attached.
        let message = EventId::try_from(newer.as_str()).unwrap();
        let request = request_of(&world, &general, message).await;
        let at_ms = world.clock.unix_ms();
        for id in [&rest[5].id, &rest[1].id] {
            let request = request.clone();
            set_state(&world, id, FileState::Reserved { request, at_ms }).await;
        }
        let request = "of no post".to_owned();
        set_state(&world, &rest[6].id, FileState::Reserved { request, at_ms }).await;
        let all = list(&bob, 0, 0).await.unwrap();
        assert_eq!((entries(&all.items), all.total), (wanted, 6));
        let eve = world.person("eve", None).await;
        assert_eq!(list(&eve, 0, 0).await.unwrap_err().kind(), ErrorKind::PermissionDenied);
        world.close().await;
    });
}

#[test]
fn a_file_whose_record_cannot_be_read_is_left_out_of_the_list() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let (world, ada, bob, general) = two(&server, &runtime).await;
        let service = &world.service;
        let mut files = Vec::new();
        for name in 0..4_u8 {
            files.push(upload(&[service], &ada, &general, &[name]).await);
        }
        let older = post(service, &ada, &general, &[&files[0]]).await;
        let newer = post(service, &ada, &general, &[&files[1], &files[2], &files[3]]).await;
        let id = files.remove(2).id;
        damage(&world.storage, &format!("files.{}.{id}", id.group())).await;
        let page = PageRequest { limit: 0, offset: 0 };
        let list = service.room_files().list(&bob, &general, page).await.unwrap();
        let wanted = [(&newer, 1), (&newer, 2), (&older, 0)];
        let wanted = wanted.map(|(message, file)| (message.clone(), files[file].clone()));
        assert_eq!((entries(&list.items), list.total), (wanted.to_vec(), 3));
        world.close().await;
    });
}

/// Wherever a deletion was cut off, a repeated one that succeeds leaves nothing that anybody can read.
#[test]
fn a_repeated_deletion_makes_files_unreadable_at_once() {
    run(|runtime| async move {
        let server = NatsServer::start();
        let (world, ada, bob, general) = two(&server, &runtime).await;
        let service = &world.service;
        for whole_message in [true, false] {
            for cut_at in 0.. {
                let file = upload(&[service], &ada, &general, b"to be deleted").await;
                let message = post(service, &ada, &general, &[&file]).await;
                let id = file.id.to_string();
                let delete = async || match whole_message {
                    true => service.deletions().message(&ada, &general, &message).await,
                    false => service.deletions().attachment(&ada, &general, &message, &id).await,
                };
                let cut = CutAt::new(delete(), cut_at).await;
                let repeated = match &cut {
                    None => delete().await,
                    Some(done) => {
                        assert!(done.is_ok(), "{done:?}");
                        break;
                    }
                };
                let open = service.assets().open(FileReader::Session(&bob), &id, None).await;
                let error = open.err().map(|error| error.kind());
                assert_eq!(error, Some(ErrorKind::NotFound), "{cut_at}: {repeated:?}");
                let listed = service
                    .assets()
                    .of_room(&bob, &general, std::slice::from_ref(&id))
                    .await
                    .unwrap();
                assert_eq!(listed, [], "{cut_at}");
                // Only an attachment of which nothing is left is not found.
                match repeated {
                    Ok(()) => {}
                    Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{cut_at}"),
                }
            }
        }
        world.close().await;
    });
}

/// Stores a file with this state, as a process leaves it that is killed between the file and the journal.
pub(super) async fn set_state(world: &World, id: &AssetId, state: FileState) {
    let change = |file: Option<&File>| {
        let file = File { state: state.clone(), ..file.unwrap().clone() };
        Ok::<_, Infallible>(RecordChange::Put(file))
    };
    world.storage.files().change(id, change).await.unwrap();
}

/// The request that posted a message.
pub(super) async fn request_of(world: &World, room: &str, id: EventId) -> String {
    let row = world.storage.timelines().row(&room.parse().unwrap(), &id).await.unwrap().unwrap();
    match row.kind {
        RowKind::Message(message) => message.request_key,
        other => panic!("{other:?}"),
    }
}
