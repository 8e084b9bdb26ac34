//! What a newer program writes beside ours: events and pages with fields that ours does not know.
//!
//! Whoever does not know a field must not write its record anew, nor fold past its event: that would
//! lose it. The room waits for the newer program, the others go on.

use chatto::nats::{Nats, Publish, PublishError, StoredMessage};
use prost::Message;
use serde::{Deserialize, Serialize};

use super::super::{connect, room, run};
use super::check::decode;
use super::run::Fault;
use crate::support::nats::NatsServer;
use crate::support::records::{Event, Head, Meta, RowPage, Stamp, ThreadPage};

/// Field 99 with one byte, which no version of today's records has.
const UNKNOWN: [u8; 4] = [0x9a, 0x06, 0x01, b'n'];

/// What is new.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) enum Novelty {
    /// An event with an effect of a kind that we do not know.
    Effect,
    /// A known kind of event with one more field.
    EventField,
    /// An event in a newer encoding.
    EventVersion,
    /// A page of rows with one more field.
    Rows,
    /// The page of short threads with one more field.
    Threads,
    /// The room's head with one more field.
    Head,
}

impl Novelty {
    pub(super) const ALL: [Self; 6] =
        [Self::Effect, Self::EventField, Self::EventVersion, Self::Rows, Self::Threads, Self::Head];

    /// Whether it is a page, which must be there already.
    pub(super) fn is_page(self) -> bool {
        matches!(self, Self::Rows | Self::Threads | Self::Head)
    }

    /// For the counts.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Effect => "foreign: event with a new effect",
            Self::EventField => "foreign: event with a new field",
            Self::EventVersion => "foreign: event in a new encoding",
            Self::Rows => "foreign: page of rows with a new field",
            Self::Threads => "foreign: page of threads with a new field",
            Self::Head => "foreign: head with a new field",
        }
    }
}

/// A record of a newer program that ours must leave alone.
#[derive(Debug)]
pub(super) enum Foreign {
    /// `readable`: at least its number, so that readers and writers of the room go on.
    Event {
        room: usize,
        number: u64,
        sequence: u64,
        readable: bool,
    },
    Page {
        room: usize,
        subject: String,
        sequence: u64,
    },
}

impl Foreign {
    pub(super) fn room(&self) -> usize {
        match self {
            Self::Event { room, .. } | Self::Page { room, .. } => *room,
        }
    }
}

fn encode(version: u8, record: &impl Message, unknown: &[u8]) -> Vec<u8> {
    let mut bytes = vec![version];
    bytes.extend(record.encode_to_vec());
    bytes.extend(unknown);
    bytes
}

/// Puts a page in the place of another one as a fold does: what that one had replaced is erased before,
/// since the server keeps two revisions, and that one itself afterwards.
async fn replace(
    nats: &Nats,
    former: &StoredMessage,
    unknown: &[u8],
) -> Result<Option<u64>, Fault> {
    let (payload, replaced) = page(former, unknown).ok_or("a page cannot be read")?;
    if replaced > 0 {
        nats.erase("PAGES", replaced).await.unwrap();
    }
    let message = Publish {
        subject: &former.subject,
        payload: payload.into(),
        expected_last: Some(former.sequence),
        ..Publish::default()
    };
    match nats.publish(message).await {
        Ok(ack) => {
            nats.erase("PAGES", former.sequence).await.unwrap();
            Ok(Some(ack.sequence))
        }
        Err(PublishError::WrongLastSequence) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// A page of the kind with or without a field that we do not know, and what the present one replaced.
fn page(stored: &StoredMessage, unknown: &[u8]) -> Option<(Vec<u8>, u64)> {
    let replaced = |stamp: &mut Option<Stamp>| {
        let stamp = stamp.get_or_insert_default();
        std::mem::replace(&mut stamp.replaced, stored.sequence)
    };
    Some(match stored.subject.split('.').nth(2)? {
        "h" => {
            let mut page: Head = decode(stored)?;
            let replaced = replaced(&mut page.stamp);
            (encode(1, &page, unknown), replaced)
        }
        "s" => {
            let mut page: ThreadPage = decode(stored)?;
            let replaced = replaced(&mut page.stamp);
            (encode(1, &page, unknown), replaced)
        }
        _ => {
            let mut page: RowPage = decode(stored)?;
            let replaced = replaced(&mut page.stamp);
            (encode(1, &page, unknown), replaced)
        }
    })
}

/// Writes what is new into a room whose last event is `events`; `None`: the room has no such page, or
/// somebody else was first.
pub(super) fn write(
    server: &NatsServer,
    novelty: Novelty,
    at: usize,
    (events, last_ms, rows): (u64, i64, u32),
) -> Option<Foreign> {
    let url = server.url();
    let id = room(at as u8);
    run(async |_| {
        let nats = connect(&url).await;
        let subject = match novelty {
            Novelty::Rows => format!("pages.{id}.r.0"),
            Novelty::Threads => format!("pages.{id}.s.0"),
            Novelty::Head => format!("pages.{id}.h"),
            Novelty::Effect | Novelty::EventField | Novelty::EventVersion => {
                let subject = format!("journal.{id}");
                let last = nats.leader_newest("JOURNAL", &subject).await.unwrap();
                let mut event = Event {
                    number: events + 1,
                    request_id: format!("foreign {}", events + 1),
                    at_ms: last_ms + 1,
                    rows_after: rows,
                    ..Event::default()
                };
                if novelty == Novelty::EventField {
                    event.effect = Some(crate::support::records::event::Effect::Pin(
                        crate::support::records::Pin { remove: true, ..Default::default() },
                    ));
                }
                let version = if novelty == Novelty::EventVersion { 2 } else { 1 };
                let message = Publish {
                    subject: &subject,
                    payload: encode(version, &event, &UNKNOWN).into(),
                    expected_last: Some(last.map_or(0, |last| last.sequence)),
                    ..Publish::default()
                };
                return match nats.publish(message).await {
                    Ok(ack) => Some(Foreign::Event {
                        room: at,
                        number: events + 1,
                        sequence: ack.sequence,
                        readable: novelty == Novelty::EventField,
                    }),
                    Err(PublishError::WrongLastSequence) => None,
                    Err(error) => panic!("{error}"),
                };
            }
        };
        let stored = nats.leader_newest("PAGES", &subject).await.unwrap()?;
        let sequence = replace(&nats, &stored, &UNKNOWN).await.unwrap()?;
        Some(Foreign::Page { room: at, subject, sequence })
    })
}

/// Nobody has written a foreign page anew, or folded a foreign event or what came after it.
pub(super) fn untouched(server: &NatsServer, foreign: &Foreign) -> Result<(), Fault> {
    let url = server.url();
    run(async |_| {
        let nats = connect(&url).await;
        match foreign {
            Foreign::Page { subject, sequence, .. } => {
                let newest = nats.leader_newest("PAGES", subject).await.unwrap();
                match newest.map(|newest| newest.sequence) {
                    Some(newest) if newest == *sequence => Ok(()),
                    other => Err(format!("a newer program's {subject} was replaced: {other:?}")),
                }
            }
            Foreign::Event { room: at, number, .. } => {
                let folded = folded(&nats, *at).await;
                match folded == number - 1 {
                    true => Ok(()),
                    false => Err(format!(
                        "room {at}: folded up to {folded}, a newer program's event is {number}"
                    )),
                }
            }
        }
    })
}

/// The number of the last event in a room's head page.
async fn folded(nats: &Nats, at: usize) -> u64 {
    let subject = format!("pages.{}.h", room(at as u8));
    let head = nats.leader_newest("PAGES", &subject).await.unwrap();
    let head: Option<Head> = head.and_then(|head| decode(&head));
    head.and_then(|head| head.stamp).map_or(0, |stamp| stamp.event_number)
}

/// The number of the last event that is folded, of each room.
pub(super) fn all_folded(server: &NatsServer, rooms: usize) -> Vec<u64> {
    let url = server.url();
    run(async |_| {
        let nats = connect(&url).await;
        let mut all = Vec::new();
        for at in 0..rooms {
            all.push(folded(&nats, at).await);
        }
        all
    })
}

/// Does what the newer program does when it comes: folds its event, or writes its page so that we can
/// read it.
pub(super) fn resolve(server: &NatsServer, foreign: &Foreign) -> Result<(), Fault> {
    let url = server.url();
    run(async |_| {
        let nats = connect(&url).await;
        match foreign {
            Foreign::Page { subject, .. } => {
                let stored = nats.leader_newest("PAGES", subject).await.unwrap().unwrap();
                let replaced = replace(&nats, &stored, &[]).await?;
                replaced.map(|_| ()).ok_or_else(|| format!("{subject} was replaced"))
            }
            Foreign::Event { room: at, number, sequence, .. } => {
                let subject = format!("pages.{}.h", room(*at as u8));
                let stored = nats.leader_newest("PAGES", &subject).await.unwrap();
                let meta = nats.leader_newest("KV_META", "$KV.META.store").await.unwrap();
                let meta: Meta = meta.as_ref().and_then(decode).ok_or("no META")?;
                let mut head: Head = stored.as_ref().and_then(decode).unwrap_or_default();
                head.last_ms += 1;
                head.stamp = Some(Stamp {
                    epoch: meta.epoch,
                    upto: *sequence,
                    event_number: *number,
                    replaced: stored.as_ref().map_or(0, |stored| stored.sequence),
                });
                let message = Publish {
                    subject: &subject,
                    payload: encode(1, &head, &[]).into(),
                    expected_last: Some(stored.map_or(0, |stored| stored.sequence)),
                    ..Publish::default()
                };
                nats.publish(message).await.map_err(|error| error.to_string())?;
                nats.erase("JOURNAL", *sequence).await.unwrap();
                Ok(())
            }
        }
    })
}
