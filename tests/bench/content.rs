//! What the generated messages are: functions of room, row and reply, so that nothing has to be
//! remembered to compare what is read later.

use chatto::domain::EventId;

/// One root message in so many has a thread, of one to three replies.
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

/// A sequence of numbers from a seed (SplitMix64).
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }
}

/// A text for a seed: 20 to 400 bytes, one in 200 about 4,000.
pub(crate) fn text(seed: u64) -> String {
    let mut numbers = Numbers::new(seed);
    let length = match numbers.below(200) {
        0 => 4_000,
        // Short messages are the usual ones.
        _ => 20 + numbers.below(380).min(numbers.below(380)),
    };
    let mut text = String::with_capacity(length + 32);
    while text.len() < length {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(WORDS[numbers.below(WORDS.len())]);
    }
    text
}

/// The seed of a row's text and author.
pub(crate) fn seed(room: usize, row: u32) -> u64 {
    (room as u64) << 32 | u64::from(row)
}

/// The id of a root message, or of a reply in its thread.
pub(crate) fn message_id(room: usize, row: u32, reply: u32) -> EventId {
    let random = Numbers::new(!seed(room, row)).next();
    EventId::new(row, reply, (random >> 32) as u32)
}

/// What a root message or a reply says.
pub(crate) fn message_text(room: usize, row: u32, reply: u32) -> String {
    text(seed(room, row) ^ u64::from(reply) << 60)
}

/// How many replies the thread of a root message has.
pub(crate) fn replies(room: usize, row: u32) -> u32 {
    let number = Numbers::new(seed(room, row) ^ 1 << 63).next();
    if number.is_multiple_of(THREAD_EVERY) { 1 + (number >> 32) as u32 % 3 } else { 0 }
}
