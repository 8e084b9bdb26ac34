//! Ids: one letter and 14 characters of `[0-9A-Za-z]` (contract 4.1), held inline.
//!
//! The 14 characters are a number of 83 bits in base 62, most significant digit first, with digits in ASCII order, so
//! ids compare as their numbers do.

use std::fmt;
use std::str::FromStr;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const DIGITS: usize = 14;
const VALUE_BITS: u32 = 83;
const LENGTH: usize = 1 + DIGITS;
/// 2^83 - 1: digits in ASCII order compare as their numbers do.
const LARGEST: &[u8; DIGITS] = b"mLhuaitFE4at27";
/// The number of values that half of the digits can represent.
const HALF: u128 = 62_u128.pow(7);

/// The text is not an id of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id of this kind")]
pub struct IdError;

/// Letter and digits of one id, always ASCII.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Text([u8; LENGTH]);

impl Text {
    fn new(letter: u8, value: u128) -> Self {
        let mut text = [letter; LENGTH];
        let value = value & ((1 << VALUE_BITS) - 1);
        // Two halves of 64 bits: dividing 128 bits is slow.
        let mut rest = [low(value % HALF), low(value / HALF)];
        for (position, digit) in text.iter_mut().skip(1).rev().enumerate() {
            let [first, second] = &mut rest;
            let half = if position < DIGITS / 2 { first } else { second };
            *digit = digit_of(*half);
            *half /= 62;
        }
        Self(text)
    }

    fn parse(text: &str, letters: &[u8]) -> Result<Self, IdError> {
        let text: [u8; LENGTH] = text.as_bytes().try_into().map_err(|_| IdError)?;
        let [letter, digits @ ..] = &text;
        let known = letters.contains(letter) && digits.iter().all(u8::is_ascii_alphanumeric);
        // The largest 14 digits are a little more than 83 bits.
        if known && digits <= LARGEST { Ok(Self(text)) } else { Err(IdError) }
    }

    fn value(&self) -> u128 {
        let [_, high @ .., a, b, c, d, e, f, g] = &self.0;
        let half =
            |digits: &[u8]| digits.iter().fold(0, |value, digit| value * 62 + digit_value(*digit));
        u128::from(half(high)) * HALF + u128::from(half(&[*a, *b, *c, *d, *e, *f, *g]))
    }

    fn as_str(&self) -> &str {
        // Only ASCII is ever put in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The lower 64 bits.
fn low(value: u128) -> u64 {
    u64::try_from(value & u128::from(u64::MAX)).unwrap_or_default()
}

fn digit_of(value: u64) -> u8 {
    usize::try_from(value % 62)
        .ok()
        .and_then(|position| ALPHABET.get(position))
        .copied()
        .unwrap_or(b'0')
}

fn digit_value(digit: u8) -> u64 {
    u64::from(match digit {
        b'0'..=b'9' => digit - b'0',
        b'A'..=b'Z' => digit - b'A' + 10,
        b'a'..=b'z' => digit - b'a' + 36,
        _ => 0,
    })
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $letters:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Text);

        impl $name {
        /// The id as sent and stored.
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let text = Text::parse(text, $letters)?;
                Self::checked(text).ok_or(IdError)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = IdError;

            fn try_from(text: &str) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }
    };
}

/// An id made of random bits alone.
macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $letters:literal) => {
        id!($(#[$doc])* $name, $letters);

        impl $name {
/// The id made of 83 of these bits, which the caller generates at random.
            #[must_use]
            pub fn from_random(bits: [u8; 16]) -> Self {
                let [letter, ..] = *$letters;
                Self(Text::new(letter, u128::from_be_bytes(bits)))
            }

            fn checked(text: Text) -> Option<Self> {
                Some(Self(text))
            }
        }
    };
}

id!(
/// A user: a 64-bit number and 19 check bits, so that a reaction list can store the
    /// number alone and still name the user.
    UserId,
    b"U"
);
random_id!(
    /// A room: `R` is a channel, `D` a direct message.
    RoomId,
    b"RD"
);
id!(
    /// A row, a message, a thread or a read marker on it: 32 bits room row, 24 bits reply number
    /// (0 = a row of the room) and 27 random bits, so that reading by id is a page look-up.
    EventId,
    b"E"
);
random_id!(
    /// A group of rooms.
    GroupId,
    b"G"
);
id!(
/// An uploaded file: 24 bits that the files of one room have in common, so that they can be listed without an
    /// index, and 59 random bits.
    AssetId,
    b"A"
);

impl UserId {
    /// The id of the user with this number.
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        Self(Text::new(b'U', (u128::from(number) << CHECK_BITS) | u128::from(check(number))))
    }

    /// The number that stands for this user in compact lists.
    #[must_use]
    pub fn number(&self) -> u64 {
        u64::try_from(self.0.value() >> CHECK_BITS).unwrap_or_default()
    }

    fn checked(text: Text) -> Option<Self> {
        let value = text.value();
        let number = u64::try_from(value >> CHECK_BITS).ok()?;
        let bits = value & ((1 << CHECK_BITS) - 1);
        (bits == u128::from(check(number))).then_some(Self(text))
    }
}

impl RoomId {
    /// The room of a direct message, from a hash of its sorted participants.
    #[must_use]
    pub fn direct(hash: [u8; 16]) -> Self {
        Self(Text::new(b'D', u128::from_be_bytes(hash)))
    }

    /// Whether this is a direct message.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.as_str().starts_with('D')
    }
}

impl EventId {
    /// The id of room row `row`, or with `reply` above 0 of that reply in the thread of root row
    /// `row`. `random` keeps ids from being guessed; its low 27 bits count. `reply` has 24 bits.
    #[must_use]
    pub fn new(row: u32, reply: u32, random: u32) -> Self {
        let reply = u128::from(reply & 0x00ff_ffff) << EVENT_RANDOM_BITS;
        let random = u128::from(random & ((1 << EVENT_RANDOM_BITS) - 1));
        Self(Text::new(b'E', (u128::from(row) << 51) | reply | random))
    }

    /// The room row, or for a reply the row of its thread's root.
    #[must_use]
    pub fn row(&self) -> u32 {
        u32::try_from(self.0.value() >> 51).unwrap_or_default()
    }

    /// The number of the reply in its thread, from 1; 0 for a row of the room.
    #[must_use]
    pub fn reply(&self) -> u32 {
        u32::try_from((self.0.value() >> EVENT_RANDOM_BITS) & 0x00ff_ffff).unwrap_or_default()
    }

    fn checked(text: Text) -> Option<Self> {
        Some(Self(text))
    }
}

impl AssetId {
    /// The id of a file of this group of files; of `random` the low 59 bits count.
    #[must_use]
    pub fn new(group: FileGroup, random: u64) -> Self {
        let random = u128::from(random) & ((1 << ASSET_RANDOM_BITS) - 1);
        Self(Text::new(b'A', (u128::from(group.0) << ASSET_RANDOM_BITS) | random))
    }

    /// The group that it was made for.
    #[must_use]
    pub fn group(&self) -> FileGroup {
        FileGroup(u32::try_from(self.0.value() >> ASSET_RANDOM_BITS).unwrap_or_default())
    }

    fn checked(text: Text) -> Option<Self> {
        Some(Self(text))
    }
}

/// Files that are listed together: those of a room, and of the few other rooms that happen to have the same 24 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileGroup(u32);

impl FileGroup {
    /// The group of a room.
    #[must_use]
    pub fn of(room: &RoomId) -> Self {
        // The low bits of a room's id are random, or of a hash.
        Self(u32::try_from(room.0.value() & 0x00ff_ffff).unwrap_or_default())
    }

    /// The group of the server's own images.
    pub const SERVER: Self = Self(0);
}

impl fmt::Display for FileGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}", self.0)
    }
}

const ASSET_RANDOM_BITS: u32 = 59;
const CHECK_BITS: u32 = 19;
const EVENT_RANDOM_BITS: u32 = 27;

/// 19 bits of the splitmix64 finaliser: not a secret, only a check against made-up numbers.
fn check(number: u64) -> u32 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    u32::try_from((mixed ^ (mixed >> 31)) >> (64 - CHECK_BITS)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Stored ids keep their meaning for ever.
    #[test]
    fn golden() {
        let events =
            [(0, 0, 0), (0, 0, 1), (1, 0, 0), (64, 3, 5), (u32::MAX, 0x00ff_ffff, u32::MAX)];
        let ids: Vec<String> =
            events.iter().map(|(a, b, c)| EventId::new(*a, *b, *c).to_string()).collect();
        assert_eq!(
            ids,
            [
                "E00000000000000",
                "E00000000000001",
                "E00000AJQCIzMf2",
                "E0000Ae32i2asqL",
                "EmLhuaitFE4at27"
            ]
        );
        let users = [0, 1, 42, u64::MAX].map(|number| UserId::from_number(number).to_string());
        assert_eq!(
            users,
            ["U00000000001wTV", "U00000000003RfF", "U0000000001W1Zh", "UmLhuaitFE4aeZH"]
        );
    }

    #[test]
    fn foreign_texts_are_no_ids() {
        for text in [
            "",
            "E",
            "E0000000000000",
            "E000000000000000",
            "U00000000000000E",
            "E000000000000-0",
            "Ezzzzzzzzzzzzzz",
            "e00000000000000",
            "E0000000000000é",
        ] {
            assert_eq!(text.parse::<EventId>(), Err(IdError), "{text}");
        }
        assert!("U00000000000000".parse::<UserId>().is_err(), "the check does not fit");
        assert!("R00000000000000".parse::<RoomId>().is_ok());
        assert!("D00000000000000".parse::<RoomId>().unwrap().is_direct());
        assert!("E00000000000000".parse::<RoomId>().is_err());
    }

    proptest! {
        #[test]
        fn events_carry_row_and_reply(row: u32, reply in 0..0x0100_0000_u32, random: u32) {
            let id = EventId::new(row, reply, random);
            prop_assert_eq!((id.row(), id.reply()), (row, reply));
            prop_assert_eq!(id.as_str().parse::<EventId>(), Ok(id));
            prop_assert_eq!(id.as_str().len(), 15);
        }

        #[test]
        fn events_sort_as_rows(a: u32, b: u32, random: u32) {
            let (x, y) = (EventId::new(a, 0, random), EventId::new(b, 0, random));
            prop_assert_eq!(a.cmp(&b), x.cmp(&y));
        }

        #[test]
        fn users_carry_their_number(number: u64) {
            let id = UserId::from_number(number);
            prop_assert_eq!(id.number(), number);
            prop_assert_eq!(id.as_str().parse::<UserId>(), Ok(id));
        }

        #[test]
        fn random_ids_round_trip(bits: [u8; 16]) {
            let room = RoomId::from_random(bits);
            prop_assert_eq!(room.as_str().parse::<RoomId>(), Ok(room));
            prop_assert!(!room.is_direct());
            let group = GroupId::from_random(bits);
            prop_assert_eq!(group.as_str().parse::<GroupId>(), Ok(group));
        }

        #[test]
        fn any_text_is_refused_or_kept(text in "\\PC{0,20}") {
            if let Ok(id) = text.parse::<EventId>() {
                prop_assert_eq!(id.as_str(), text);
            }
        }
    }
}
