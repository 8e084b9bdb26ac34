//! What the streams and the files hold, read past the store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chatto::limits::PAGE_ROWS;
use chatto::nats::{BatchRead, StoredMessage};
use chatto::runtime::Clock;
use prost::Message;

use super::super::{connect, room, run};
use super::ops::ROOMS;
use super::protocol::NEEDLE;
use super::run::{Fault, Run};
use crate::support::nats::NatsServer;
use crate::support::records::{Event, Head, Part, RowPage, ThreadPage};

/// A stream's messages, oldest first. nats-server may have started a moment ago.
fn all(server: &NatsServer, stream: &str) -> Vec<StoredMessage> {
    let url = server.url();
    run(async |_| {
        let (nats, clock) = (connect(&url).await, Clock::system());
        let deadline = clock.now() + Duration::from_secs(20);
        let (mut all, mut sequence) = (Vec::new(), 1);
        loop {
            match nats.read(stream, BatchRead::From { sequence, count: 256 }).await {
                Ok(batch) => {
                    let Some(last) = batch.messages.last() else { return all };
                    sequence = last.sequence + 1;
                    all.extend(batch.messages);
                }
                Err(error) if error.is_transient() && clock.now() < deadline => {
                    clock.sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{stream} cannot be read: {error}"),
            }
        }
    })
}

/// What is in the pages, one line each, for whoever investigates a failure.
pub(super) fn stored_pages(server: &NatsServer) -> Vec<String> {
    let line = |stored: &StoredMessage| {
        let levels = stored.subject.split('.').count();
        let (subject, sequence) = (&stored.subject, stored.sequence);
        let page = match stored.subject.split('.').nth(2) {
            Some("r") if levels == 4 => format!("{:?}", decode::<RowPage>(stored)),
            Some("t") if levels == 5 => format!("{:?}", decode::<RowPage>(stored)),
            Some("r" | "t") => format!("{:?}", decode::<Part>(stored)),
            Some("s") => format!("{:?}", decode::<ThreadPage>(stored)),
            _ => format!("{:?}", decode::<Head>(stored)),
        };
        let mut page = page.replace('x', "");
        page.truncate(20_000);
        format!("PAGES {sequence} {subject}: {page}")
    };
    all(server, "PAGES").iter().map(line).collect()
}

/// A record that this program can read.
pub(super) fn decode<R: Message + Default>(stored: &StoredMessage) -> Option<R> {
    let (&version, rest) = stored.payload.split_first()?;
    (version == 1).then(|| R::decode(rest).ok())?
}

/// The events that lie in the journal, by room and in their order.
pub(super) fn journal(server: &NatsServer) -> Vec<Vec<Event>> {
    let stored = all(server, "JOURNAL");
    let mut rooms = vec![Vec::new(); ROOMS];
    for stored in stored {
        let of = (0..ROOMS).find(|n| stored.subject == format!("journal.{}", room(*n as u8)));
        if let (Some(of), Some(event)) = (of, decode(&stored)) {
            rooms[of].push(event);
        }
    }
    rooms
}

/// Every acknowledged event lies in the journal, once, in order and as its response contained it, unless the text
/// it brought was removed since.
pub(super) fn acknowledged_is_stored(run: &mut Run<'_>) -> Result<(), Fault> {
    for (n, stored) in journal(&run.nats).iter().enumerate() {
        let room = &run.rooms[n];
        if !stored.is_sorted_by(|one, other| one.number < other.number) {
            return Err(format!("room {n}: the journal is out of order"));
        }
        let requests: BTreeSet<&str> = stored.iter().map(|one| one.request_id.as_str()).collect();
        if requests.len() != stored.len() {
            return Err(format!("room {n}: a request was stored twice"));
        }
        let stored: BTreeMap<u64, &Event> = stored.iter().map(|one| (one.number, one)).collect();
        for (number, event) in &room.events {
            match stored.get(number) {
                Some(stored) if *stored == event => {}
                None if room.model.has_removed(event) => {
                    run.counts.add("store: text erased from the journal");
                }
                other => return Err(format!("room {n}: {other:?} instead of {event:?}")),
            }
        }
    }
    Ok(())
}

/// No page has a part that it does not name, once nothing is in work and the store was purged.
pub(super) fn pages(run: &mut Run<'_>) -> Result<(), Fault> {
    let stored = all(&run.nats, "PAGES");
    let newest: BTreeMap<&str, &StoredMessage> =
        stored.iter().map(|stored| (stored.subject.as_str(), stored)).collect();
    for (subject, stored) in &newest {
        let levels: Vec<&str> = subject.split('.').collect();
        let (base, part) = match levels[..] {
            ["pages", room, "r", k, part] => (format!("pages.{room}.r.{k}"), part),
            ["pages", room, "t", root, k, part] => (format!("pages.{room}.t.{root}.{k}"), part),
            ["pages", _, "r", "1"] => {
                run.counts.add("store: second page of rows");
                continue;
            }
            ["pages", _, "t", root, _] => {
                let first = root.parse::<u32>().is_ok_and(|root| root < PAGE_ROWS);
                run.counts.add(match first {
                    true => "store: thread of the first page with pages of its own",
                    false => "store: thread of a later page with pages of its own",
                });
                continue;
            }
            _ => continue,
        };
        let page: Option<RowPage> = newest.get(base.as_str()).and_then(|base| decode(base));
        let named = page.is_some_and(|page| page.parts.iter().any(|n| n.to_string() == part));
        if !named {
            return Err(format!("{subject} is no part of its page"));
        }
        let part: Part = decode(stored).ok_or_else(|| format!("{subject} cannot be read"))?;
        if !part.rows.is_empty() {
            run.counts.add("store: page with spilled rows");
        }
        if !part.reactions.is_empty() {
            run.counts.add("store: page with spilled reactions");
        }
    }
    Ok(())
}

/// Names of texts in the files of a directory, and where.
fn names(dir: &Path, found: &mut BTreeMap<String, PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names(&path, found);
            continue;
        }
        #[expect(clippy::disallowed_methods, reason = "files of the test's own")]
        let bytes = std::fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        for rest in text.split(NEEDLE).skip(1) {
            let name: String = rest.chars().take_while(|c| !matches!(c, '.')).take(40).collect();
            found.insert(name, path.clone());
        }
    }
}

/// What was removed is nowhere on the disk; but for what nats-server itself was about to overwrite when it was
/// killed.
pub(super) fn disk(run: &mut Run<'_>) -> Result<(), Fault> {
    let mut found = BTreeMap::new();
    names(&run.nats.store_dir(), &mut found);
    for (n, room) in run.rooms.iter().enumerate() {
        for name in &room.model.removed {
            match found.get(name) {
                None => {}
                Some(path) if run.nats_was_killed && is_deleted(path, name) => {
                    eprintln!(
                        "{name} was deleted by nats-server, which was killed before it overwrote it"
                    );
                }
                Some(path) => {
                    let path = path.display();
                    return Err(format!("room {n}: the removed text {name} is in {path}"));
                }
            }
        }
    }
    Ok(())
}

/// Whether nats-server has deleted every message with this text. To erase one it writes a record of its deletion
/// and then overwrites the message (`removeMsgFromBlock` of nats-server 2.15): killed between the two it finds
/// the message deleted at its next start, and nothing it offers overwrites it then.
fn is_deleted(block: &Path, name: &str) -> bool {
    let text = format!("{NEEDLE}{name}.");
    let (mut deleted, mut with_text) = (BTreeSet::new(), BTreeSet::new());
    for entry in std::fs::read_dir(block.parent().unwrap()).unwrap() {
        #[expect(clippy::disallowed_methods, reason = "files of the test's own")]
        let bytes = std::fs::read(entry.unwrap().path()).unwrap_or_default();
        for Record { sequence, is_tombstone, bytes } in records(&bytes) {
            if is_tombstone {
                deleted.insert(sequence);
            } else if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                with_text.insert(sequence);
            }
        }
    }
    !with_text.is_empty() && with_text.is_subset(&deleted)
}

/// A record of a block file of nats-server's file store.
struct Record<'a> {
    sequence: u64,
    is_tombstone: bool,
    bytes: &'a [u8],
}

/// The records of a block (`filestore.go` of nats-server 2.15): length in 4 bytes, of which the highest bit means
/// that headers follow; sequence in 8, of which the highest bit means erased, the next one tombstone.
fn records(mut block: &[u8]) -> Vec<Record<'_>> {
    let mut found = Vec::new();
    while let [a, b, c, d, rest @ ..] = block {
        let length = (u32::from_le_bytes([*a, *b, *c, *d]) & !(1 << 31)) as usize;
        let sequence = rest.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let (Some(sequence), Some(bytes)) = (sequence, block.get(..length.max(12))) else { break };
        let is_tombstone = sequence & (1 << 62) != 0;
        found.push(Record { sequence: sequence & !(3 << 62), is_tombstone, bytes });
        block = &block[bytes.len()..];
    }
    found
}
