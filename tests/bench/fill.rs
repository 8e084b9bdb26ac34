//! The generator: creates a store with users, rooms, members and messages through the product's own layers.
//!
//! Everything it writes follows from seeds, so that any row can be compared later. A generated store is kept, and
//! used again as long as layout and sizes are the same.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use chatto::domain::timeline::RowKind;
use chatto::domain::{Group, GroupId, GroupItem, RoomId, UserId};
use chatto::runtime::{Clock, Scope};
use chatto::service::{LogIn, NewUser};
use chatto::storage::{LAYOUT, RecordChange, Storage};
use fastrand::Rng;
use serde::{Deserialize, Serialize};

use crate::content::{message_id, message_text, replies, seed};
use crate::options::Options;
use crate::room::{Author, LANES, RoomFill};
use crate::server::Server;
use crate::store::{self, Store};

/// Increased when the generator writes something else than before.
const VERSION: u32 = 3;
/// Rooms whose sizes follow Zipf's law.
const BUSY_ROOMS: usize = 100;
/// Rooms with few messages beside them.
const QUIET_ROOMS: usize = 10;
/// Messages of a quiet room in the full store.
const QUIET_MESSAGES: u32 = 2_000;
/// Of so many messages …
const PARTS: u32 = 5;
/// … so many are roots, the others replies.
const ROOT_PARTS: u32 = 4;
/// Rows that are read and compared after a store was filled.
const COMPARED: usize = 1_000;
/// The age of the oldest message.
pub(crate) const HISTORY_MS: i64 = 3 * 365 * 24 * 3600 * 1000;

/// A store and who and what is in it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Filled {
    /// The data directory; never started on directly, because that changes it.
    #[serde(skip)]
    data: PathBuf,
    pub(crate) users: Vec<Account>,
    pub(crate) rooms: Vec<FilledRoom>,
}

/// A logged-in user.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) token: String,
}

/// A room.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct FilledRoom {
    pub(crate) id: String,
    /// Its number: the seed of what is in it.
    pub(crate) number: usize,
    /// The row of its first message.
    pub(crate) first_row: u32,
    /// Its root messages, in rows without gaps.
    pub(crate) messages: u32,
    /// Positions in the list of users.
    pub(crate) members: Vec<usize>,
}

impl Filled {
    /// The kept store of these sizes, or a new one.
    pub(crate) fn get(options: &Options, messages: u32) -> Self {
        let name = format!("l{LAYOUT}-g{VERSION}-{}u-{messages}m", options.users);
        let dir = options.dir.join("stores").join(name);
        let file = dir.join("store.json");
        let data = dir.join("data");
        if let Ok(kept) = std::fs::read_to_string(&file) {
            let kept: Self = serde_json::from_str(&kept).expect("the description of the store");
            return Self { data, ..kept };
        }
        std::fs::remove_dir_all(&dir).ok();
        std::fs::create_dir_all(&dir).unwrap();
        eprintln!("filling a store with {messages} messages …");
        let began = Instant::now();
        // The first start makes the secrets, the streams and the defaults.
        Server::start(Command::new(&options.server), &data, &[]).stop();
        let sizes = (options.users as usize, messages);
        let (users, rooms) = store::with(&data, |store| fill(store, sizes));
        let filled = Self { data, users, rooms };
        std::fs::write(&file, serde_json::to_string(&filled).unwrap()).unwrap();
        eprintln!("… in {:.0} s", began.elapsed().as_secs_f64());
        filled
    }

    /// A copy to work on.
    pub(crate) fn copy(&self, options: &Options, name: &str) -> PathBuf {
        let to = options.dir.join("run").join(name);
        copy(&self.data, &to);
        to
    }

    /// The token of some member of a room.
    pub(crate) fn token(&self, room: &FilledRoom, choice: usize) -> &str {
        &self.users[room.members[choice % room.members.len()]].token
    }
}

/// Copies a directory, sharing blocks where the file system can.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::remove_dir_all(to).ok();
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    let done = Command::new("cp").args(["-a", "--reflink=auto"]).args([from, to]).status().unwrap();
    assert!(done.success(), "cp {} {}", from.display(), to.display());
    // Writes that are still pending would disturb the next measurement.
    rustix::fs::sync();
}

/// How many root messages each room gets.
fn sizes(messages: u32) -> Vec<u32> {
    let messages = messages / PARTS * ROOT_PARTS;
    let quiet = QUIET_MESSAGES.min(messages / 200);
    let busy = messages - quiet * u32::try_from(QUIET_ROOMS).unwrap();
    let harmonic: f64 = (1..=BUSY_ROOMS).map(|rank| 1.0 / rank as f64).sum();
    let share = |rank: usize| (f64::from(busy) / (rank as f64 * harmonic)) as u32;
    let mut sizes: Vec<u32> = (1..=BUSY_ROOMS).map(share).collect();
    let rest = busy - sizes.iter().sum::<u32>();
    sizes[0] += rest;
    sizes.extend([quiet; QUIET_ROOMS]);
    sizes
}

async fn fill(store: Store, (users, messages): (usize, u32)) -> (Vec<Account>, Vec<FilledRoom>) {
    let accounts = make_users(&store, users).await;
    let mut authors = Vec::new();
    for account in &accounts {
        let id = UserId::try_from(account.id.as_str()).unwrap();
        authors.push(Author { id, sealer: store.storage.texts().sealer(&id).await.unwrap() });
    }
    let authors: Arc<[Author]> = authors.into();
    let now = Clock::system().unix_ms();
    let scope = Scope::new(&store.runtime, "fill", (BUSY_ROOMS + QUIET_ROOMS) * LANES);
    let group = first_group(&store.storage);
    let mut rooms = Vec::new();
    for (number, messages) in sizes(messages).into_iter().enumerate() {
        let room = RoomFill {
            store: store.clone(),
            number,
            messages,
            authors: Arc::clone(&authors),
            begin_ms: now - HISTORY_MS,
        };
        let filled_room = room.make(group).await;
        rooms.push(filled_room.clone());
        room.post(&scope, &filled_room);
    }
    let items = rooms.iter().map(|room| GroupItem::Room(room.id.parse().unwrap()));
    let items: Vec<_> = items.collect();
    store
        .storage
        .state()
        .change::<Group, _>(&group, |present| -> Result<_, Infallible> {
            let present = present.cloned().unwrap_or_else(|| Group::new(group));
            let items = [present.items.clone(), items.clone()].concat();
            Ok(RecordChange::Put(Group { items, ..present }))
        })
        .await
        .unwrap();
    scope.join().await;
    store.storage.fold_all().await.unwrap();
    compare(&store.storage, &rooms, &authors).await;
    (accounts, rooms)
}

/// Reads random rows by id and compares them with what the generator has written for these numbers.
async fn compare(storage: &Storage, rooms: &[FilledRoom], authors: &[Author]) {
    let mut numbers = Rng::with_seed(7);
    let rooms: Vec<&FilledRoom> = rooms.iter().filter(|room| room.messages > 0).collect();
    let wanted = if rooms.is_empty() { 0 } else { COMPARED };
    for _ in 0..wanted {
        let filled_room = rooms[numbers.usize(..rooms.len())];
        let row = filled_room.random_row(&mut numbers);
        let reply = numbers.u32(..=replies(filled_room.number, row));
        let room = RoomId::try_from(filled_room.id.as_str()).unwrap();
        let id = message_id(filled_room.number, row, reply);
        let found =
            Box::pin(storage.timelines().row(&room, &id)).await.unwrap().expect("a row of this id");
        let author = authors[filled_room.author(row, reply)].id;
        assert_eq!(found.actor, Some(author), "author of {id}");
        let RowKind::Message(message) = found.kind else { panic!("{id} is no message") };
        let threads = message.thread.map_or(0, |thread| thread.count);
        let expected = if reply == 0 { replies(filled_room.number, row) } else { 0 };
        assert_eq!(threads, expected, "replies to {id}");
        let body = message.content.and_then(|content| content.body).expect("a text");
        let text = storage.texts().unseal(&author, &room, &id, &body).await.unwrap();
        assert_eq!(text, Some(message_text(filled_room.number, row, reply)), "text of {id}");
    }
    eprintln!("{wanted} random rows read by id and compared");
}

async fn make_users(store: &Store, count: usize) -> Vec<Account> {
    let mut accounts = Vec::new();
    for number in 0..count {
        let (login, password) = (format!("user{number:04}"), format!("the password of {number}"));
        let role = (number == 0).then_some("owner");
        let new =
            NewUser { login: &login, display_name: None, email: None, role, password: &password };
        let made = store.service.accounts().create(new).await.unwrap();
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        let log_in = LogIn { identifier: &login, password: &password, address };
        let session = store.service.sessions().log_in(log_in).await.unwrap();
        accounts.push(Account { id: made.user.id.as_str().to_owned(), token: session.token });
    }
    accounts
}

fn first_group(storage: &Storage) -> GroupId {
    storage
        .state()
        .read(|tables| tables.groups.keys().next().copied().expect("a group of the first start"))
}

impl FilledRoom {
    /// The row of one of its messages.
    pub(crate) fn random_row(&self, numbers: &mut Rng) -> u32 {
        self.first_row + numbers.u32(..self.messages)
    }

    /// The id of one of its root messages, by its row.
    pub(crate) fn message_id(&self, row: u32) -> String {
        message_id(self.number, row, 0).as_str().to_owned()
    }

    /// Who wrote a row or a reply, as a position in the list of users.
    pub(crate) fn author(&self, row: u32, reply: u32) -> usize {
        let number = seed(self.number, row) ^ u64::from(reply) << 60;
        self.members[Rng::with_seed(number).usize(..self.members.len())]
    }
}
