//! Lists of operations against a model in memory: timelines, membership and what is unread, through
//! restarts and calls that a kill cuts off.

use chatto::domain::text::IdempotencyKey;
use chatto::service::{
    ErrorKind, NewMessage, NewRoom, PagePosition, RowViewKind, Service, Session, TimelinePage,
};
use fastrand::Rng;

use super::{CutAt, NatsServer, World, run, settings};

const PEOPLE: usize = 3;
const OPERATIONS: usize = 70;

#[derive(Debug, Clone, PartialEq)]
enum Row {
    Created,
    Joined(usize),
    Left(usize),
    Message(usize, String),
}

#[derive(Debug, Clone, Copy)]
enum Operation {
    Join,
    Leave,
    Post,
    /// Posted twice with one key.
    PostAgain,
    /// Cut off at an await, then repeated with the same key.
    PostCut(u32),
    Mark,
    Restart,
}

/// What a room should be.
#[derive(Debug, Clone)]
struct Model {
    rows: Vec<Row>,
    members: [bool; PEOPLE],
    /// Rows before this are read.
    read: [usize; PEOPLE],
}

impl Model {
    fn new() -> Self {
        Self { rows: vec![Row::Created], members: [false; PEOPLE], read: [0; PEOPLE] }
    }

    fn newest(&self) -> usize {
        let message = self.rows.iter().rposition(|row| matches!(row, Row::Message(..)));
        message.map_or(0, |row| row + 1)
    }

    fn is_unread(&self, person: usize) -> bool {
        let by_others = |row: &Row| matches!(row, Row::Message(author, _) if *author != person);
        self.members[person] && self.rows.iter().skip(self.read[person]).any(by_others)
    }

    /// What the operation should do; `false`: it returns an error.
    fn apply(&mut self, operation: Operation, person: usize, body: &str) -> bool {
        match operation {
            Operation::Join if !self.members[person] => {
                self.read[person] = self.read[person].max(self.newest());
                self.members[person] = true;
                self.rows.push(Row::Joined(person));
            }
            Operation::Leave if self.members[person] => {
                self.members[person] = false;
                self.rows.push(Row::Left(person));
            }
            Operation::Post | Operation::PostAgain | Operation::PostCut(_) => {
                if !self.members[person] {
                    return false;
                }
                self.rows.push(Row::Message(person, body.to_owned()));
                self.read[person] = self.rows.len();
            }
            Operation::Mark => {
                if !self.members[person] {
                    return false;
                }
                self.read[person] = self.read[person].max(self.newest());
            }
            Operation::Join | Operation::Leave | Operation::Restart => {}
        }
        true
    }
}

fn operation(random: &mut Rng) -> Operation {
    match random.u32(..12) {
        0 | 1 => Operation::Join,
        2 => Operation::Leave,
        3..=6 => Operation::Post,
        7 => Operation::PostAgain,
        8 => Operation::PostCut(random.u32(..12)),
        9 | 10 => Operation::Mark,
        _ => Operation::Restart,
    }
}

#[test]
fn operation_lists_do_what_the_model_says() {
    for seed in 1..=5 {
        let server = NatsServer::start();
        run(async |runtime| {
            let mut random = Rng::with_seed(seed);
            let mut world = World::start(&server, &runtime).await;
            let mut people = vec![world.person("boss", Some("owner")).await];
            for n in 1..PEOPLE {
                people.push(world.person(&format!("person-{n}"), None).await);
            }
            let new = NewRoom { name: "other", description: "", group: "", universal: false };
            world.service.rooms().create(&people[0], new).await.unwrap();
            let rooms =
                [world.room(&people[0], "general").await, world.room(&people[0], "other").await];
            let mut models = [Model::new(), Model::new()];
            for turn in 0..OPERATIONS {
                let operation = operation(&mut random);
                let (person, place) = (random.usize(..PEOPLE), random.usize(..2));
                let body = format!("{seed}-{turn}");
                let expected = models[place].apply(operation, person, &body);
                if matches!(operation, Operation::Restart) {
                    world.close().await;
                    world = World::open(&server, &runtime, settings()).await;
                }
                let session = &people[person];
                let done = perform(&world.service, operation, session, &rooms[place], &body).await;
                let what = format!("seed {seed}, turn {turn}: {operation:?} by {person}");
                assert_eq!(done, expected, "{what}");
                check(&world.service, &people, &rooms[place], &models[place], &what).await;
            }
            world.close().await;
        });
    }
}

/// `false`: an error because the membership is missing; any other error fails the test.
async fn perform(
    service: &Service,
    operation: Operation,
    session: &Session,
    room: &str,
    body: &str,
) -> bool {
    let new = NewMessage { room, body, ..NewMessage::default() };
    let key = IdempotencyKey::parse(body).unwrap();
    let keyed = NewMessage { idempotency_key: Some(&key), ..new };
    let posted = match operation {
        Operation::Join => {
            service.rooms().join(session, room).await.unwrap();
            return true;
        }
        Operation::Leave => {
            service.rooms().leave(session, room).await.unwrap();
            return true;
        }
        Operation::Restart => return true,
        Operation::Mark => {
            let marked = service.markers().mark_room_read(session, room, "").await;
            return match marked {
                Ok(_) => true,
                Err(error) if error.kind() == ErrorKind::PermissionDenied => false,
                Err(error) => panic!("{error:?}"),
            };
        }
        Operation::Post => service.messages().post(session, new).await,
        Operation::PostAgain => match service.messages().post(session, keyed).await {
            Ok(first) => {
                let again = service.messages().post(session, keyed).await.unwrap();
                assert_eq!(again, first);
                Ok(first)
            }
            result => result,
        },
        Operation::PostCut(left) => {
            CutAt::new(service.messages().post(session, keyed), left).await;
            service.messages().post(session, keyed).await
        }
    };
    match posted {
        Ok(message) => {
            assert_eq!(message.body.as_deref(), Some(body));
            true
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => false,
        Err(error) => panic!("{error:?}"),
    }
}

async fn check(service: &Service, people: &[Session], room: &str, model: &Model, what: &str) {
    for (person, session) in people.iter().enumerate() {
        let state = service.directory().room(session, room).await.unwrap().state;
        assert_eq!(state.is_member, model.members[person], "{what}: membership of {person}");
        assert_eq!(state.has_unread, model.is_unread(person), "{what}: unread for {person}");
    }
    let Some(reader) = model.members.iter().position(|member| *member) else { return };
    let reader = &people[reader];
    let page = service.timeline().page(reader, room, PagePosition::Newest, 100).await.unwrap();
    assert_eq!(rows(&page, people), model.rows, "{what}");
    assert!(page.rows.is_sorted_by(|a, b| a.created_ms < b.created_ms), "{what}");
}

fn rows(page: &TimelinePage, people: &[Session]) -> Vec<Row> {
    let person = |id| people.iter().position(|session| Some(session.user) == id).unwrap();
    page.rows
        .iter()
        .map(|row| match &row.kind {
            RowViewKind::RoomCreated => Row::Created,
            RowViewKind::Joined => Row::Joined(person(row.actor)),
            RowViewKind::Left => Row::Left(person(row.actor)),
            RowViewKind::Message(message) => {
                Row::Message(person(row.actor), message.body.clone().unwrap())
            }
            other => panic!("{other:?}"),
        })
        .collect()
}
