//! The content of generated messages. It follows from room, row and reply, so that what is read later can be compared
//! without keeping it.

use chatto::domain::EventId;
use fastrand::Rng;

/// One root message in this many has a thread, with one to three replies.
const THREAD_EVERY: u64 = 8;

const WORDS: [&str; 64] = [
    "the",
    "club",
    "meets",
    "on",
    "Thursday",
    "at",
    "eight",
    "and",
    "whoever",
    "comes",
    "brings",
    "a",
    "boat",
    "or",
    "two",
    "paddles",
    "please",
    "tell",
    "Jörg",
    "that",
    "keys",
    "are",
    "under",
    "stone",
    "by",
    "door",
    "später",
    "vielleicht",
    "weather",
    "looks",
    "fine",
    "wind",
    "north",
    "force",
    "four",
    "who",
    "has",
    "seen",
    "my",
    "blue",
    "jacket",
    "https://example.org/tide",
    "tide",
    "table",
    "is",
    "here",
    "thanks",
    "see",
    "you",
    "there",
    "naïve",
    "café",
    "日本語",
    "сообщение",
    "🚣",
    "👍",
    "question",
    "answer",
    "tomorrow",
    "evening",
    "harbour",
    "lock",
    "bridge",
    "again",
];

/// A text for a seed: 20 to 400 bytes, one in 200 about 4,000.
pub(crate) fn text(seed: u64) -> String {
    let mut numbers = Rng::with_seed(seed);
    let length = match numbers.usize(..200) {
        0 => 4_000,
        // Most messages are short.
        _ => 20 + numbers.usize(..380).min(numbers.usize(..380)),
    };
    let mut text = String::with_capacity(length + 32);
    while text.len() < length {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(WORDS[numbers.usize(..WORDS.len())]);
    }
    text
}

/// The seed of a row's text and author.
pub(crate) fn seed(room: usize, row: u32) -> u64 {
    (room as u64) << 32 | u64::from(row)
}

/// The id of a root message, or of a reply in its thread.
pub(crate) fn message_id(room: usize, row: u32, reply: u32) -> EventId {
    let random = Rng::with_seed(!seed(room, row)).u64(..);
    EventId::new(row, reply, (random >> 32) as u32)
}

/// The text of a root message or a reply.
pub(crate) fn message_text(room: usize, row: u32, reply: u32) -> String {
    text(seed(room, row) ^ u64::from(reply) << 60)
}

/// How many replies the thread of a root message has.
pub(crate) fn replies(room: usize, row: u32) -> u32 {
    let number = Rng::with_seed(seed(room, row) ^ 1 << 63).u64(..);
    if number.is_multiple_of(THREAD_EVERY) { 1 + (number >> 32) as u32 % 3 } else { 0 }
}
