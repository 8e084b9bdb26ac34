//! The fold's invariant, *page(upto) + journal(> upto) = truth*: random operations on a real store
//! against a model. Posts and folds are dropped at a random await, the process is "killed" (a new
//! store is opened on the same server), and the server itself is killed with `kill -9`.
//!
//! A run is named by its seed; `CHATTO_SEED=n` repeats one.

use std::collections::BTreeMap;

use chatto::domain::EventId;
use chatto::runtime::{Clock, Runtime};
use chatto::storage::records::{Delete, Echo, Edit, Fact, Post, React, event::Effect, row::Kind};
use chatto::storage::{Draft, RequestId, RoomHead, Storage};

use super::{CutAt, config, content, open, room, run, text, user};
use crate::support::nats::NatsServer;

/// xorshift64*: a seed names a run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        (!from.is_empty()).then(|| &from[self.below(from.len())])
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
struct ModelMessage {
    id: String,
    body: Option<String>,
    edited: bool,
    deleted: bool,
    reactions: BTreeMap<String, Vec<u64>>,
    replies: Vec<ModelMessage>,
    live_replies: u32,
    echo: Option<usize>,
}

#[derive(Debug, Clone, PartialEq)]
enum ModelRow {
    Message(ModelMessage),
    Echo { reply_id: String, hidden: bool, deleted: bool },
    Fact,
}

#[derive(Debug, Clone, Default)]
struct ModelRoom {
    rows: Vec<ModelRow>,
    events: u64,
}

impl ModelRoom {
    fn message(&mut self, id: &str) -> &mut ModelMessage {
        let at = EventId::try_from(id).unwrap();
        let ModelRow::Message(root) = &mut self.rows[at.row() as usize] else {
            panic!("{id} is no message")
        };
        match at.reply() {
            0 => root,
            n => &mut root.replies[n as usize - 1],
        }
    }

    fn echo(&mut self, reply_id: &str, row: u32) {
        assert_eq!(row as usize, self.rows.len());
        self.rows.push(ModelRow::Echo {
            reply_id: reply_id.to_owned(),
            hidden: false,
            deleted: false,
        });
        self.message(reply_id).echo = Some(row as usize);
    }

    fn reply(&mut self, post: &Post, message: ModelMessage) {
        let ModelRow::Message(root) = &mut self.rows[post.row as usize] else {
            panic!("a reply to no message")
        };
        assert_eq!(post.reply as usize, root.replies.len() + 1);
        root.replies.push(message);
        root.live_replies += 1;
        if let Some(echo) = &post.echo {
            self.echo(&post.id, echo.row);
        }
    }

    fn apply(&mut self, effect: &Effect) {
        self.events += 1;
        match effect {
            Effect::Post(post) => {
                let message = ModelMessage {
                    id: post.id.clone(),
                    body: text(post.content.as_ref()),
                    ..ModelMessage::default()
                };
                if post.reply == 0 {
                    assert_eq!(post.row as usize, self.rows.len());
                    self.rows.push(ModelRow::Message(message));
                    return;
                }
                self.reply(post, message);
            }
            Effect::Edit(edit) => {
                let message = self.message(&edit.id);
                if edit.content.is_some() && !message.deleted {
                    message.body = text(edit.content.as_ref());
                    message.edited = true;
                }
                if let Some(echo) = &edit.show_echo {
                    self.echo(&edit.id, echo.row);
                }
                if let Some(echo) = &edit.hide_echo {
                    self.message(&edit.id).echo = None;
                    let ModelRow::Echo { hidden, .. } = &mut self.rows[echo.row as usize] else {
                        panic!("no echo")
                    };
                    *hidden = true;
                }
            }
            Effect::Delete(delete) => {
                let message = self.message(&delete.id);
                message.deleted = true;
                message.body = None;
                let at = EventId::try_from(delete.id.as_str()).unwrap();
                if at.reply() > 0
                    && let ModelRow::Message(root) = &mut self.rows[at.row() as usize]
                {
                    root.live_replies -= 1;
                }
                if let Some(echo) = &delete.echo
                    && let ModelRow::Echo { deleted, .. } = &mut self.rows[echo.row as usize]
                {
                    *deleted = true;
                }
            }
            Effect::React(react) => {
                let reactions = &mut self.message(&react.id).reactions;
                let users = reactions.entry(react.emoji.clone()).or_default();
                users.retain(|user| *user != react.user_number);
                if !react.remove {
                    users.push(react.user_number);
                }
                if users.is_empty() {
                    reactions.remove(&react.emoji);
                }
            }
            Effect::Fact(fact) => {
                assert_eq!(fact.row as usize, self.rows.len());
                self.rows.push(ModelRow::Fact);
            }
            Effect::Pin(_) => {}
        }
    }

    /// Root messages and replies that may be edited, deleted and reacted to.
    fn live(&self) -> Vec<(String, Option<usize>)> {
        let mut live = Vec::new();
        for row in &self.rows {
            let ModelRow::Message(root) = row else { continue };
            for message in std::iter::once(root).chain(&root.replies) {
                if !message.deleted {
                    live.push((message.id.clone(), message.echo));
                }
            }
        }
        live
    }
}

/// What an operation does, decided before the head is known.
#[derive(Debug, Clone)]
enum Op {
    Post(String),
    Reply { root: u32, body: String, echo: bool },
    Edit { id: String, body: String },
    ShowEcho { id: String },
    HideEcho { id: String, row: usize },
    Delete { id: String, echo: Option<usize> },
    React { id: String, emoji: String, user: u64, remove: bool },
    Fact,
}

fn draft(op: &Op, head: &RoomHead, replies: impl Fn(u32) -> u32) -> Draft {
    let row = head.rows;
    let echo_at = |row| Echo { id: EventId::new(row, 0, 3).to_string(), row };
    let effect = match op {
        Op::Post(body) => return super::post(head, user(1), body),
        Op::Reply { root, body, echo } => {
            let reply = replies(*root) + 1;
            Effect::Post(Post {
                id: EventId::new(*root, reply, 5).to_string(),
                row: *root,
                reply,
                content: Some(content(body)),
                echo: echo.then(|| echo_at(row)),
                ..Default::default()
            })
        }
        Op::Edit { id, body } => {
            Effect::Edit(Edit { id: id.clone(), content: Some(content(body)), ..Edit::default() })
        }
        Op::ShowEcho { id } => {
            Effect::Edit(Edit { id: id.clone(), show_echo: Some(echo_at(row)), ..Edit::default() })
        }
        Op::HideEcho { id, row } => Effect::Edit(Edit {
            id: id.clone(),
            hide_echo: Some(echo_at(*row as u32)),
            ..Edit::default()
        }),
        Op::Delete { id, echo } => Effect::Delete(Delete {
            id: id.clone(),
            echo_only: false,
            echo: echo.map(|row| echo_at(row as u32)),
        }),
        Op::React { id, emoji, user, remove } => Effect::React(React {
            id: id.clone(),
            emoji: emoji.clone(),
            user_number: *user,
            remove: *remove,
        }),
        Op::Fact => {
            Effect::Fact(Fact { id: EventId::new(row, 0, 9).to_string(), row, ..Fact::default() })
        }
    };
    Draft { actor: Some(user(1)), at_ms: Clock::system().unix_ms(), effect }
}

fn choose(random: &mut Random, model: &ModelRoom, step: usize) -> Op {
    let live = model.live();
    let roots: Vec<u32> = (0..)
        .zip(&model.rows)
        .filter_map(|(n, row)| matches!(row, ModelRow::Message(_)).then_some(n))
        .collect();
    // The first root gets most replies, so that one thread outgrows its page.
    let root = if random.below(3) > 0 { roots.first() } else { random.pick(&roots) };
    let picked = random.pick(&live).cloned();
    let body = format!("text {step} {}", "x".repeat(random.below(300)));
    match (random.below(12), root, picked) {
        (0..=3, Some(&root), _) => Op::Reply { root, body, echo: random.below(4) == 0 },
        (4, _, Some((id, _))) => Op::Edit { id, body },
        (5, _, Some((id, echo))) if random.below(3) == 0 => Op::Delete { id, echo },
        (6 | 7, _, Some((id, _))) => Op::React {
            id,
            emoji: format!("e{}", random.below(3)),
            user: random.below(5) as u64,
            remove: random.below(3) == 0,
        },
        (8, _, Some((id, None))) if EventId::try_from(id.as_str()).unwrap().reply() > 0 => {
            Op::ShowEcho { id }
        }
        (8, _, Some((id, Some(row)))) => Op::HideEcho { id, row },
        (9, ..) => Op::Fact,
        _ => Op::Post(body),
    }
}

async fn check(storage: &Storage, n: u8, model: &ModelRoom) {
    let head = storage.head(&room(n)).await.unwrap();
    assert_eq!(head.event_number, model.events, "events of room {n}");
    assert_eq!(head.rows as usize, model.rows.len(), "rows of room {n}");
    let mut rows = Vec::new();
    while rows.len() < model.rows.len() {
        let from = rows.len() as u32;
        let more = storage.rows(&room(n), from, head.rows).await.unwrap();
        assert!(!more.is_empty(), "rows from {from} are missing");
        rows.extend(more);
    }
    for (number, (row, expected)) in (0..).zip(rows.iter().zip(&model.rows)) {
        assert_eq!(row.number, number);
        match (row.kind.as_ref().unwrap(), expected) {
            (Kind::Message(message), ModelRow::Message(expected)) => {
                assert_message(&row.id, message, expected);
                let thread = message.thread.as_ref();
                assert_eq!(thread.map_or(0, |thread| thread.count), expected.live_replies);
                let made = expected.replies.len() as u32;
                assert_eq!(thread.map_or(0, |thread| thread.made), made);
                let mut replies = Vec::new();
                while replies.len() < expected.replies.len() {
                    let from = replies.len() as u32 + 1;
                    replies
                        .extend(storage.replies(&room(n), number, from, made + 1).await.unwrap());
                }
                for (reply, expected) in replies.iter().zip(&expected.replies) {
                    let Some(Kind::Message(message)) = &reply.kind else { panic!("{reply:?}") };
                    assert_message(&reply.id, message, expected);
                    let echo = expected.echo.map_or(0, |row| row as u32);
                    assert_eq!(message.echo_row, echo, "echo of {}", reply.id);
                }
            }
            (Kind::Echo(echo), ModelRow::Echo { reply_id, hidden, deleted }) => {
                assert_eq!(&echo.reply_id, reply_id);
                assert_eq!((echo.hidden, echo.deleted_ms > 0), (*hidden, *deleted));
            }
            (Kind::Fact(_), ModelRow::Fact) => {}
            (row, expected) => panic!("{row:?} instead of {expected:?}"),
        }
    }
}

fn assert_message(id: &str, message: &chatto::storage::records::Message, expected: &ModelMessage) {
    assert_eq!(id, expected.id);
    assert_eq!(text(message.content.as_ref()), expected.body, "body of {id}");
    assert_eq!(message.deleted_ms > 0, expected.deleted, "deletion of {id}");
    assert_eq!(message.updated_ms > 0, expected.edited, "edit of {id}");
    let reactions: BTreeMap<_, _> = message
        .reactions
        .iter()
        .map(|reaction| (reaction.emoji.clone(), reaction.users.clone()))
        .collect();
    assert_eq!(reactions, expected.reactions, "reactions of {id}");
}

async fn simulate(runtime: &Runtime, server: &mut NatsServer, seed: u64, steps: usize) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut models = [ModelRoom::default(), ModelRoom::default()];
    let url = server.url();
    let mut storage = open(&url, runtime, config(None)).await.unwrap();
    for step in 0..steps {
        let n = random.below(2);
        let op = choose(&mut random, &models[n], step);
        let request = RequestId::random();
        loop {
            if random.below(40) == 0 {
                server.restart();
            }
            let made = |root: u32| match &models[n].rows[root as usize] {
                ModelRow::Message(root) => root.replies.len() as u32,
                _ => 0,
            };
            let at = room(n as u8);
            let appended =
                storage.append::<()>(&at, &request, &[], |view| Ok(draft(&op, view.head(), made)));
            // One in four is dropped at one of its first awaits, and the process with it.
            let left = if random.below(4) == 0 { 1 + random.below(12) as u32 } else { u32::MAX };
            match CutAt::new(appended, left).await {
                Some(appended) => {
                    let event = appended.unwrap().event;
                    models[n].apply(event.effect.as_ref().unwrap());
                    assert_eq!(event.number, models[n].events, "event number, seed {seed}");
                    break;
                }
                None => storage = open(&url, runtime, config(None)).await.unwrap(),
            }
        }
        if random.below(15) == 0 {
            let left = if random.below(2) == 0 { 1 + random.below(40) as u32 } else { u32::MAX };
            match CutAt::new(storage.fold_all(), left).await {
                Some(folded) => folded.unwrap(),
                None => storage = open(&url, runtime, config(None)).await.unwrap(),
            }
        }
        if step % 40 == 39 {
            for (n, model) in (0..).zip(&models) {
                check(&storage, n, model).await;
            }
        }
    }
    storage.fold_all().await.unwrap();
    storage.close().await;
    let storage = open(&url, runtime, config(None)).await.unwrap();
    assert_eq!(storage.unfolded().0, 0, "what is folded is not read again");
    for (n, model) in (0..).zip(&models) {
        check(&storage, n, model).await;
    }
    storage.close().await;
}

#[test]
fn page_and_journal_are_the_truth_whatever_is_cut() {
    let seeds: Vec<u64> = match std::env::var("CHATTO_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => vec![1, 2, 3],
    };
    let steps = std::env::var("CHATTO_STEPS").map_or(240, |steps| steps.parse().unwrap());
    for seed in seeds {
        eprintln!("seed {seed}");
        let mut server = NatsServer::start();
        run(async |runtime| simulate(&runtime, &mut server, seed, steps).await);
    }
}
