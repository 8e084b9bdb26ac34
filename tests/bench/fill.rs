//! The generator: a store with users, rooms, members and messages, made by the product's own layers.
//!
//! Everything it writes follows from numbers, so that any row can be compared later. A store that was
//! made once is kept and used again while its layout and sizes are the same.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use chatto::domain::text::RoomName;
use chatto::domain::{EventId, GroupId, RoomId, UserId};
use chatto::runtime::Scope;
use chatto::service::{LogIn, NewUser};
use chatto::storage::records::{Content, Fact, FactKind, Group, Member, Post, Room, event::Effect};
use chatto::storage::{Change, Claim, Draft, RequestId, RoomHead, Sealer, Storage};
use serde::{Deserialize, Serialize};

use crate::options::Options;
use crate::server::Server;
use crate::store::{self, Store};
use crate::text::{Numbers, text};

/// Raised when the generator makes something else than before.
const VERSION: u32 = 1;
/// Rooms whose sizes follow Zipf's law.
const BUSY_ROOMS: usize = 100;
/// Rooms with few messages beside them.
const QUIET_ROOMS: usize = 10;
/// Messages of a quiet room in the full store.
const QUIET_MESSAGES: u32 = 2_000;
/// Rooms that everybody is a member of; of the others a user is in every fourth.
const UNIVERSAL_ROOMS: usize = 10;
/// Calls at a time in one room: the next is drafted while the last is being confirmed.
const LANES: usize = 4;
/// The history begins so long ago.
const HISTORY_MS: i64 = 3 * 365 * 24 * 3600 * 1000;

/// A store and who and what is in it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Filled {
    /// The data directory; never started on directly, because that changes it.
    pub(crate) data: PathBuf,
    pub(crate) users: Vec<Account>,
    pub(crate) rooms: Vec<Place>,
    /// How long making it took, in seconds.
    pub(crate) seconds: f64,
}

/// A user that is logged in.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) token: String,
}

/// A room.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) id: String,
    /// Its number: the seed of what is in it.
    pub(crate) number: usize,
    /// The row of its first message.
    pub(crate) first_row: u32,
    /// Its messages, in rows without gaps.
    pub(crate) messages: u32,
    /// Positions in the list of users.
    pub(crate) members: Vec<usize>,
}

impl Filled {
    /// The kept store of these sizes, or a new one.
    pub(crate) fn get(options: &Options) -> Self {
        let name = format!("g{VERSION}-{}u-{}m", options.users, options.messages);
        let dir = options.dir.join("stores").join(name);
        let file = dir.join("store.json");
        if let Ok(kept) = std::fs::read_to_string(&file) {
            return serde_json::from_str(&kept).expect("the description of the store");
        }
        std::fs::remove_dir_all(&dir).ok();
        std::fs::create_dir_all(&dir).unwrap();
        eprintln!("filling a store with {} messages …", options.messages);
        let began = Instant::now();
        let data = dir.join("data");
        // The first start makes the secrets, the streams and the defaults.
        Server::start(options, &data, &[]).stop();
        let sizes = (options.users as usize, options.messages);
        let (users, rooms) = store::with(&data, |store| fill(store, sizes));
        let seconds = began.elapsed().as_secs_f64();
        let filled = Self { data, users, rooms, seconds };
        std::fs::write(&file, serde_json::to_string(&filled).unwrap()).unwrap();
        eprintln!("… in {seconds:.0} s");
        filled
    }

    /// A copy to work on.
    pub(crate) fn copy(&self, options: &Options, name: &str) -> PathBuf {
        let to = options.dir.join("run").join(name);
        copy(&self.data, &to);
        to
    }

    /// The token of some member of a room.
    pub(crate) fn token(&self, room: &Place, choice: usize) -> &str {
        &self.users[room.members[choice % room.members.len()]].token
    }
}

impl Place {
    /// The id of one of its messages, by its row.
    pub(crate) fn message_id(&self, row: u32) -> String {
        message_id(self.number, row).as_str().to_owned()
    }
}

/// Copies a directory, sharing blocks where the file system can.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::remove_dir_all(to).ok();
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    let done = std::process::Command::new("cp")
        .args(["-a", "--reflink=auto"])
        .args([from, to])
        .status()
        .unwrap();
    assert!(done.success(), "cp {} {}", from.display(), to.display());
}

/// How many messages each room gets.
fn sizes(messages: u32) -> Vec<u32> {
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

fn is_member(user: usize, room: usize) -> bool {
    room < UNIVERSAL_ROOMS || (user + room) % 4 == 0
}

/// The seed of a row's text and author.
fn seed(room: usize, row: u32) -> u64 {
    (room as u64) << 32 | u64::from(row)
}

fn message_id(room: usize, row: u32) -> EventId {
    let random = Numbers::new(!seed(room, row)).next();
    EventId::new(row, 0, (random >> 32) as u32)
}

async fn fill(store: Store, (users, messages): (usize, u32)) -> (Vec<Account>, Vec<Place>) {
    let accounts = make_users(&store, users).await;
    let mut authors = Vec::new();
    for account in &accounts {
        let id = UserId::try_from(account.id.as_str()).unwrap();
        authors.push(Author { id, sealer: store.storage.sealer(&id).await.unwrap() });
    }
    let authors: Arc<[Author]> = authors.into();
    let now = chatto::runtime::Clock::system().unix_ms();
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
        let place = room.make(group).await;
        rooms.push(place.clone());
        room.post(&scope, &place);
    }
    let items: Vec<String> = rooms.iter().map(|room| room.id.clone()).collect();
    store
        .storage
        .change_group(&group, |present| -> Result<_, Infallible> {
            let present = present.cloned().unwrap_or_default();
            let items = [present.items.clone(), items.clone()].concat();
            Ok(Change::Put(Group { items, ..present }))
        })
        .await
        .unwrap();
    scope.join().await;
    store.storage.fold_all().await.unwrap();
    (accounts, rooms)
}

async fn make_users(store: &Store, count: usize) -> Vec<Account> {
    let mut accounts = Vec::new();
    for number in 0..count {
        let (login, password) = (format!("user{number:04}"), format!("the password of {number}"));
        let role = (number == 0).then_some("owner");
        let new =
            NewUser { login: &login, display_name: None, email: None, role, password: &password };
        let made = store.service.create_user(new).await.unwrap();
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        let log_in = LogIn { identifier: &login, password: &password, address };
        let session = store.service.log_in(log_in).await.unwrap();
        accounts.push(Account { id: made.user.id.as_str().to_owned(), token: session.token });
    }
    accounts
}

fn first_group(storage: &Storage) -> GroupId {
    storage.read(|tables| tables.groups.keys().next().copied().expect("a group of the first start"))
}

struct Author {
    id: UserId,
    sealer: Sealer,
}

/// What one room is filled with.
#[derive(Clone)]
struct RoomFill {
    store: Store,
    number: usize,
    messages: u32,
    authors: Arc<[Author]>,
    begin_ms: i64,
}

impl RoomFill {
    /// The room with its members and the rows that tell of them.
    async fn make(&self, group: GroupId) -> Place {
        let storage = &self.store.storage;
        let mut numbers = Numbers::new(self.begin_ms.unsigned_abs() ^ seed(self.number, 0));
        let mut bits = [0; 16];
        bits.iter_mut().for_each(|byte| *byte = numbers.next() as u8);
        let id = RoomId::from_random(bits);
        let name = RoomName::parse(&format!("bench-{:03}", self.number)).unwrap();
        storage.claim(Claim::RoomName(&name.key()), id.as_str()).await.unwrap();
        let room = Room {
            id: id.as_str().to_owned(),
            name: name.as_str().to_owned(),
            group_id: group.as_str().to_owned(),
            universal: self.number < UNIVERSAL_ROOMS,
            created_ms: self.begin_ms,
            creator_id: self.authors[0].id.as_str().to_owned(),
            announced: true,
            ..Room::default()
        };
        storage
            .change_room(&id, |_| -> Result<_, Infallible> { Ok(Change::Put(room.clone())) })
            .await
            .unwrap();
        self.tell(&id, self.authors[0].id, FactKind::RoomCreated, 0).await;
        let members: Vec<usize> =
            (0..self.authors.len()).filter(|user| is_member(*user, self.number)).collect();
        if !room.universal {
            for user in &members {
                self.join(&id, self.authors[*user].id).await;
            }
        }
        let first_row = storage.head(&id).await.unwrap().rows;
        Place {
            id: id.as_str().to_owned(),
            number: self.number,
            first_row,
            messages: self.messages,
            members,
        }
    }

    async fn join(&self, room: &RoomId, user: UserId) {
        let member = Member {
            room_id: room.as_str().to_owned(),
            user_id: user.as_str().to_owned(),
            since_ms: self.begin_ms,
            announced: true,
            ..Member::default()
        };
        let storage = &self.store.storage;
        storage
            .change_member(room, &user, |_| -> Result<_, Infallible> {
                Ok(Change::Put(member.clone()))
            })
            .await
            .unwrap();
        self.tell(room, user, FactKind::Joined, storage.member_revision(room, &user)).await;
    }

    async fn tell(&self, room: &RoomId, user: UserId, kind: FactKind, member_revision: u64) {
        let draft = |head: &RoomHead| -> Result<_, Infallible> {
            let id = message_id(self.number, head.rows).as_str().to_owned();
            let fact =
                Fact { id, row: head.rows, kind: kind.into(), member_revision, ..Fact::default() };
            Ok(Draft { actor: Some(user), at_ms: self.begin_ms, effect: Effect::Fact(fact) })
        };
        let request = RequestId::random();
        Box::pin(self.store.storage.append(room, &request, draft)).await.unwrap();
    }

    /// Starts the tasks that post its messages.
    fn post(&self, scope: &Scope, place: &Place) {
        let left = Arc::new(AtomicU32::new(self.messages));
        for _ in 0..LANES {
            let (room, place, left) = (self.clone(), place.clone(), Arc::clone(&left));
            let lane = async move {
                let take = |left: u32| left.checked_sub(1);
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                    room.post_one(&place).await;
                }
            };
            scope.spawn("room", lane).unwrap();
        }
    }

    /// Posts what the room's next row is to say.
    async fn post_one(&self, place: &Place) {
        let room = RoomId::try_from(place.id.as_str()).unwrap();
        let draft = |head: &RoomHead| -> Result<_, Infallible> {
            let id = message_id(self.number, head.rows);
            let author = &self.authors[place.author(head.rows)];
            let text = text(seed(self.number, head.rows));
            let post = Post {
                id: id.as_str().to_owned(),
                row: head.rows,
                content: Some(Content {
                    body: Some(author.sealer.seal(&room, id.as_str(), &text)),
                    ..Content::default()
                }),
                ..Post::default()
            };
            let done = i64::from(head.rows - place.first_row);
            let at_ms = self.begin_ms + HISTORY_MS / i64::from(self.messages) * done;
            Ok(Draft { actor: Some(author.id), at_ms, effect: Effect::Post(post) })
        };
        let request = RequestId::random();
        Box::pin(self.store.storage.append(&room, &request, draft)).await.unwrap();
    }
}

impl Place {
    /// Who wrote a row, as a position in the list of users.
    fn author(&self, row: u32) -> usize {
        let choice = Numbers::new(seed(self.number, row)).below(self.members.len());
        self.members[choice]
    }
}
