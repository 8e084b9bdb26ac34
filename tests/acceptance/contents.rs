//! What a store and an archive contain, for comparisons.

use std::path::Path;

use chatto::backup::archive::ArchiveReader;
use chatto::backup::contents::Contents;
use chatto::backup::transcript::{Transcript, TranscriptFormat};
use chatto::crypto::Secret;
use chatto::domain::{RoomId, UserId};
use chatto::storage::Config;

use crate::storage::{config, open};
use crate::support::server::SECRET_KEY;

/// A store in NATS that `Server::use_external` has made.
pub(super) fn of_processes() -> Config {
    let secret_key = Secret::from(SECRET_KEY.to_owned());
    Config { embedded: false, create: false, secret_key, ..config(None) }
}

/// Everything of a store that people can see, as text.
pub(super) async fn everything(url: &str, runtime: &chatto::runtime::Runtime) -> String {
    let storage = open(url, runtime, of_processes()).await.unwrap();
    let (mut rooms, mut shown) = storage.state().read(|tables| {
        let rooms: Vec<RoomId> = tables.rooms.keys().copied().collect();
        let mut records: Vec<String> = Vec::new();
        records.extend(tables.users.values().map(|user| format!("{user:?}")));
        records.extend(tables.roles.values().map(|role| format!("{role:?}")));
        records.extend(tables.groups.values().map(|group| format!("{group:?}")));
        records.extend(tables.rooms.values().map(|room| format!("{room:?}")));
        for room in &rooms {
            records.extend(tables.members(room).map(|(_, member)| format!("{member:?}")));
        }
        records.sort();
        (rooms, records)
    });
    rooms.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    for room in rooms {
        let transcript = Transcript::new(&storage, room, TranscriptFormat::Json, Vec::new());
        let (rows, count) = Box::pin(transcript.write()).await.unwrap();
        assert_eq!(count.unreadable, 0, "{room}");
        shown.push(String::from_utf8(rows).unwrap());
        let mut users: Vec<UserId> =
            storage.state().read(|tables| tables.users.keys().copied().collect());
        users.sort_by_key(UserId::number);
        for user in users {
            let marker = storage.markers().get(&user, room.as_str()).await.unwrap();
            shown.push(format!("{room} {user} {marker:?}"));
        }
    }
    storage.close().await;
    shown.join("\n")
}

/// What an archive brings back.
pub(super) fn archived(path: &Path) -> Contents {
    let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
    Contents::read(&mut ArchiveReader::open(file).unwrap(), &mut |_| {}).unwrap()
}
