//! A process of its own with an open store, which does what lines on its standard input order: the test
//! binary itself, started again with an environment variable.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use chatto::domain::RoomId;
use chatto::runtime::{Runtime, Scope};
use chatto::storage::{Appended, ChangeError, Config, RequestId, Storage, StorageError};
use prost::Message as _;

use super::super::{CutAt, config, open, room, run, user};
use super::model::{Line as RowLine, View};
use super::protocol::{Act, Command, Emoji, Line, Request, Response, Text};
use crate::support::records;
use chatto::domain::timeline::RowKind;

/// The address of the nats-server to work on.
pub(super) const VARIABLE: &str = "CHATTO_SIMULATION_WORKER";
/// Commands in work at a time; the simulation sends fewer.
const COMMANDS_MAX: usize = 256;
/// What the test runner prints is distinguished from our lines by this.
pub(super) const MARK: char = '@';

#[derive(Debug)]
struct Refused;

/// The worker process; in an ordinary run only what both sides of its lines must agree about.
#[test]
fn worker() {
    let Some(url) = std::env::var_os(VARIABLE) else { return lines_come_back_as_they_were() };
    let url = url.into_string().unwrap();
    // A simulation that is killed leaves nobody behind, stopped ones neither.
    let killed = Some(rustix::process::Signal::KILL);
    rustix::process::set_parent_process_death_signal(killed).unwrap();
    log::set_logger(&Errors).unwrap();
    log::set_max_level(log::LevelFilter::Error);
    run(async |runtime| serve(&url, &runtime).await);
}

fn lines_come_back_as_they_were() {
    let text = Text { name: "a\nb".to_owned(), bytes: 70 };
    let act = Act::Reply { root: "E1".to_owned(), text, echo: true };
    let key = "key".to_owned();
    for command in [
        Command::Append { room: 1, key, act, cut: Some(3) },
        Command::Fold { cut: None },
        Command::Read { room: 2, barrier: true },
    ] {
        let request = Request { id: 7, command };
        let line = serde_json::to_string(&request).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request);
    }
    let line = Line::Response {
        id: 7,
        response: Response::Appended { event: vec![1, 255], duplicate: true },
    };
    let text = serde_json::to_string(&line).unwrap();
    assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
    assert_eq!(Emoji { number: 4, bytes: 9 }.whole().len(), 9);
}

fn print_line(line: &Line) {
    let text = serde_json::to_string(line).unwrap();
    let mut out = std::io::stdout().lock();
    // The test runner leaves an unfinished line of its own.
    write!(out, "\n{MARK}{text}\n").unwrap();
    out.flush().unwrap();
}

async fn serve(url: &str, runtime: &Runtime) {
    let storage = open(url, runtime, Config { embedded: false, ..config(None) }).await.unwrap();
    print_line(&Line::Ready);
    let (tx, requests) = smol::channel::bounded(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else { break };
            let request: Request = serde_json::from_str(&line).unwrap();
            if tx.send_blocking(request).is_err() {
                break;
            }
        }
    });
    let scope = Scope::new(runtime, "commands", COMMANDS_MAX);
    let storage = Arc::new(storage);
    while let Ok(Request { id, command }) = requests.recv().await {
        if command == Command::Close {
            scope.join().await;
            storage.close().await;
            print_line(&Line::Response { id, response: Response::Done });
            return;
        }
        let storage = Arc::clone(&storage);
        scope
            .spawn("command", async move {
                let response = Box::pin(execute(&storage, command)).await.unwrap_or_else(failed);
                print_line(&Line::Response { id, response });
            })
            .unwrap();
    }
    std::process::abort();
}

fn failed(error: StorageError) -> Response {
    let transient = error.is_transient();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    Response::Failed { error: text, transient }
}

async fn execute(storage: &Storage, command: Command) -> Result<Response, StorageError> {
    Ok(match command {
        Command::Append { room: at, key, act, cut } => {
            let room = room(at);
            let request = RequestId::keyed(&user(0), "Simulate", &room, &key);
            let appended = append(storage, &room, &request, &act);
            match CutAt::new(appended, cut.unwrap_or(u32::MAX)).await {
                None => Response::Cut,
                Some(Ok(Appended { event, duplicate })) => {
                    let event = records::Event::from(event).encode_to_vec();
                    Response::Appended { event, duplicate }
                }
                Some(Err(ChangeError::Refused(Refused))) => Response::Refused,
                Some(Err(ChangeError::Storage(error))) => return Err(error),
            }
        }
        Command::Fold { cut } => {
            match CutAt::new(storage.fold_all(), cut.unwrap_or(u32::MAX)).await {
                None => Response::Cut,
                Some(folded) => folded.map(|()| Response::Done)?,
            }
        }
        Command::Read { room: at, barrier } => {
            if barrier {
                storage.barrier().await?;
            }
            Response::Room(Box::new(read(storage, &room(at)).await?))
        }
        Command::Purge => storage.purge().await.map(|()| Response::Done)?,
        Command::Unfolded => Response::Unfolded(storage.unfolded().0),
        Command::Close => Response::Refused,
    })
}

async fn append(
    storage: &Storage,
    room: &RoomId,
    request: &RequestId,
    act: &Act,
) -> Result<Appended, ChangeError<Refused>> {
    let random = request
        .as_str()
        .bytes()
        .fold(7_u32, |sum, byte| sum.wrapping_mul(16_777_619) ^ u32::from(byte));
    let needs: Vec<_> = act.needs().into_iter().collect();
    storage
        .timelines()
        .append(room, request, &needs, |view| {
            let row = needs.first().and_then(|id| view.row(id));
            act.draft(view.head(), row, random).ok_or(Refused)
        })
        .await
}

async fn read(storage: &Storage, room: &RoomId) -> Result<View, StorageError> {
    let head = storage.timelines().head(room).await?;
    let mut rows = Vec::new();
    while rows.len() < head.rows as usize {
        let from = rows.len() as u32;
        let more = storage.timelines().rows(room, from, head.rows).await?;
        if more.is_empty() {
            break;
        }
        for row in more {
            let mut replies = Vec::new();
            let made = match &row.kind {
                RowKind::Message(message) => {
                    message.thread.as_ref().map_or(0, |thread| thread.made)
                }
                _ => 0,
            };
            while replies.len() < made as usize {
                let from = replies.len() as u32 + 1;
                let more = storage.timelines().replies(room, row.number, from, made + 1).await?;
                if more.is_empty() {
                    break;
                }
                replies.extend(more.iter().map(|reply| RowLine::read(reply, Vec::new())));
            }
            rows.push(RowLine::read(&row, replies));
        }
    }
    Ok(View {
        events: head.event_number,
        last_ms: head.last_ms,
        pins: head.pins().map(|pin| pin.id.to_string()).collect(),
        pin_marker: head.pin_marker.clone(),
        newest: head
            .newest()
            .and_then(|newest| newest.id)
            .map(|id| id.to_string())
            .unwrap_or_default(),
        rows,
    })
}

/// The log: errors only, reported to the simulation.
struct Errors;

impl log::Log for Errors {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("chatto")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let mut fields = Fields(String::new());
            record.key_values().visit(&mut fields).ok();
            print_line(&Line::Error(format!("{}: {}{}", record.target(), record.args(), fields.0)));
        }
    }

    fn flush(&self) {}
}

/// The fields of a log line, as text.
struct Fields(String);

impl<'kvs> log::kv::VisitSource<'kvs> for Fields {
    fn visit_pair(
        &mut self,
        key: log::kv::Key<'kvs>,
        value: log::kv::Value<'kvs>,
    ) -> Result<(), log::kv::Error> {
        write!(self.0, " {key}={value}").ok();
        Ok(())
    }
}
