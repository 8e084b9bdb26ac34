//! A page as it is stored: a base record and, when it is too large for one, parts.
//!
//! Parts are written first, then the base that names them, then the former parts are erased. Their numbers are
//! random, so that no two folds choose the same, and a part is never written twice. A reader takes base and
//! parts from one request and ignores parts the base does not name, so every instant shows either the
//! former page or the new one.

use bytes::Bytes;
use prost::Message as _;

use crate::limits::{PAGE_SPILL_BYTES, REACTIONS_SPILL_BYTES};
use crate::storage::encoding::{decode, encode};
use crate::storage::error::StorageError;
use crate::storage::records::{Part, Reaction, Row, RowPage, SpilledReactions, Stamp, row::Kind};

/// Users of one emoji in one spilled list; longer lists continue in the next.
const SPILLED_USERS_MAX: usize = 16_384;

/// A part as it lies in the store.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredPart {
    pub(crate) number: u32,
    pub(crate) sequence: u64,
    pub(crate) payload: Bytes,
}

/// What to write for a page.
pub(crate) struct Split {
    pub(crate) base: RowPage,
    /// Parts to write before the base, by number.
    pub(crate) new_parts: Vec<(u32, Bytes)>,
}

/// Divides rows into a base and parts. `kept`: the parts that the former base names; those whose bytes have
/// not changed keep their number and are not written again. A part that no base names belongs to a fold
/// that may still erase it, so none of those is kept.
pub(crate) fn split(mut rows: Vec<Row>, stamp: Stamp, kept: &[&StoredPart]) -> Split {
    let mut items = Vec::new();
    for row in &mut rows {
        spill_reactions(row, &mut items);
    }
    let mut contents = Vec::new();
    let mut part = Part::default();
    let mut bytes = 0;
    for item in items {
        let size = item.encoded_len() + 8;
        if bytes + size > PAGE_SPILL_BYTES && bytes > 0 {
            contents.push(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += size;
        part.reactions.push(item);
    }
    if rows.iter().map(|row| row.encoded_len() + 8).sum::<usize>() > PAGE_SPILL_BYTES {
        for row in std::mem::take(&mut rows) {
            let size = row.encoded_len() + 8;
            if bytes + size > PAGE_SPILL_BYTES && bytes > 0 {
                contents.push(std::mem::take(&mut part));
                bytes = 0;
            }
            bytes += size;
            part.rows.push(row);
        }
    }
    if bytes > 0 {
        contents.push(part);
    }
    let mut base = RowPage { stamp: Some(stamp), rows, ..RowPage::default() };
    let mut new_parts = Vec::new();
    for content in contents {
        let payload = encode(&content);
        let same = kept.iter().find(|part| part.payload == payload);
        let number = same.map_or_else(random_number, |part| part.number);
        if same.is_none() {
            new_parts.push((number, payload));
        }
        base.parts.push(number);
    }
    Split { base, new_parts }
}

/// Puts a page together again. `None`: a part that the base names is not among `parts` (the reader
/// saw different instants of a lagging replica and reads again from the leader).
///
/// # Errors
/// [`StorageError::Corrupt`].
pub(crate) fn join(base: &RowPage, parts: &[StoredPart]) -> Result<Option<Vec<Row>>, StorageError> {
    let mut rows = base.rows.clone();
    let mut spilled = Vec::new();
    for number in &base.parts {
        let Some(part) = parts.iter().find(|part| part.number == *number) else { return Ok(None) };
        let part: Part = decode(&part.payload).map_err(StorageError::corrupt("PAGES"))?;
        rows.extend(part.rows);
        spilled.extend(part.reactions);
    }
    rows.sort_by_key(|row| row.number);
    // Stable: chunks of one emoji stay in the order of their parts.
    spilled.sort_by_key(|item| (item.number, item.order));
    for item in spilled {
        let at = rows.binary_search_by_key(&item.number, |row| row.number);
        let Some(Kind::Message(message)) =
            at.ok().and_then(|at| rows.get_mut(at)).and_then(|row| row.kind.as_mut())
        else {
            return Err(StorageError::Corrupt { what: "PAGES", source: None });
        };
        match message.reactions.last_mut() {
            Some(last) if last.emoji == item.emoji => last.users.extend(item.users),
            _ => message.reactions.push(Reaction { emoji: item.emoji, users: item.users }),
        }
    }
    Ok(Some(rows))
}

fn random_number() -> u32 {
    u32::from_be_bytes(crate::crypto::random())
}

fn spill_reactions(row: &mut Row, items: &mut Vec<SpilledReactions>) {
    let Some(Kind::Message(message)) = &mut row.kind else { return };
    let size: usize = message.reactions.iter().map(|reaction| reaction.encoded_len() + 8).sum();
    if size <= REACTIONS_SPILL_BYTES {
        return;
    }
    for (order, reaction) in (0..).zip(std::mem::take(&mut message.reactions)) {
        for users in reaction.users.chunks(SPILLED_USERS_MAX) {
            items.push(SpilledReactions {
                number: row.number,
                emoji: reaction.emoji.clone(),
                users: users.to_vec(),
                order,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{BODY_MAX_BYTES, NATS_PAYLOAD_MAX_BYTES, PAGE_ROWS};
    use crate::storage::records::{Content, Message, Sealed};

    fn row(number: u32, body_bytes: usize, emojis: u64, users: u64) -> Row {
        let reactions = (0..emojis)
            .map(|e| Reaction { emoji: format!("emoji_{e}"), users: (0..users).collect() })
            .collect();
        let body = Sealed { ciphertext: vec![7; body_bytes].into(), ..Sealed::default() };
        let content = Content { body: Some(body), ..Content::default() };
        let message = Message { content: Some(content), reactions, ..Message::default() };
        Row { number, kind: Some(Kind::Message(message)), ..Row::default() }
    }

    /// The new parts as a reader finds them.
    fn stored(split: &Split) -> Vec<StoredPart> {
        let parts = split.new_parts.iter().map(|(number, payload)| StoredPart {
            number: *number,
            sequence: 0,
            payload: payload.clone(),
        });
        parts.collect()
    }

    fn round_trip(rows: &[Row]) -> Split {
        let split = split(rows.to_vec(), Stamp::default(), &[]);
        assert_eq!(join(&split.base, &stored(&split)).unwrap().unwrap(), rows);
        assert!(encode(&split.base).len() < NATS_PAYLOAD_MAX_BYTES);
        for (_, payload) in &split.new_parts {
            assert!(payload.len() < NATS_PAYLOAD_MAX_BYTES, "{}", payload.len());
        }
        split
    }

    #[test]
    fn a_usual_page_has_no_parts() {
        let rows: Vec<_> = (0..PAGE_ROWS).map(|n| row(n, 200, 2, 3)).collect();
        assert_eq!(round_trip(&rows).new_parts.len(), 0);
    }

    #[test]
    fn a_page_of_longest_bodies_and_full_reaction_lists_stays_below_the_servers_limit() {
        let rows: Vec<_> =
            (0..PAGE_ROWS).map(|n| row(n, BODY_MAX_BYTES + 100, 20, 1_000)).collect();
        assert!(round_trip(&rows).new_parts.len() > 10);
        let one_emoji_of_many: Vec<_> = vec![row(0, 10, 1, 200_000)];
        round_trip(&one_emoji_of_many);
    }

    #[test]
    fn unchanged_parts_are_not_written_again() {
        let mut rows: Vec<_> = (0..PAGE_ROWS).map(|n| row(n, BODY_MAX_BYTES, 20, 1_000)).collect();
        let first = round_trip(&rows);
        if let Some(Kind::Message(message)) = &mut rows[63].kind {
            message.updated_ms = 1;
        }
        let stored = stored(&first);
        let second = split(rows, Stamp::default(), &stored.iter().collect::<Vec<_>>());
        assert!(second.new_parts.len() <= 2, "{}", second.new_parts.len());
        let is_new = |(number, _): &(u32, Bytes)| !first.base.parts.contains(number);
        assert!(second.new_parts.iter().all(is_new));
    }

    #[test]
    fn a_missing_part_is_noticed() {
        let rows: Vec<_> = (0..PAGE_ROWS).map(|n| row(n, BODY_MAX_BYTES, 0, 0)).collect();
        let split = round_trip(&rows);
        assert_eq!(join(&split.base, &[]).unwrap(), None);
    }
}
