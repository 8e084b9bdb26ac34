//! Names of members, and their order.

use std::fmt;
use std::str::FromStr;

use crate::domain::AssetId;
use crate::storage::ArchivedStream;

/// Where the bytes of a file were when the archive was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AssetOrigin {
    Nats,
    S3,
}

impl AssetOrigin {
    /// As manifests and paths have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::S3 => "s3",
        }
    }
}

/// The name of a member. Members of an archive ascend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberName {
    Header,
    Readme,
    /// Records of a stream; numbered from 1.
    Records(ArchivedStream, u32),
    /// A file; numbered from 1.
    Asset(AssetOrigin, u32, AssetId),
    /// Numbered from 1.
    ManifestPart(u32),
    Manifest,
}

/// Not the name of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a member of a backup")]
pub struct NameError;

impl MemberName {
    /// Whether it may follow the member before it; `None`: it is the first.
    pub(super) fn may_follow(self, before: Option<Self>) -> bool {
        let Some(before) = before else { return self == Self::Header };
        match (before.group(), self.group()) {
            (former, group) if former == group => self.number() == before.number() + 1,
            (former, group) => former < group && self.number() == 1,
        }
    }

    /// Its place in the order of groups.
    fn group(self) -> (u8, u8) {
        match self {
            Self::Header => (0, 0),
            Self::Readme => (1, 0),
            Self::Records(stream, _) => {
                let place = ArchivedStream::ALL.iter().position(|one| *one == stream);
                (2, place.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX))
            }
            Self::Asset(AssetOrigin::Nats, ..) => (3, 0),
            Self::Asset(AssetOrigin::S3, ..) => (4, 0),
            Self::ManifestPart(_) => (5, 0),
            Self::Manifest => (6, 0),
        }
    }

    /// Its number in its group.
    fn number(self) -> u64 {
        match self {
            Self::Header | Self::Readme | Self::Manifest => 1,
            Self::Records(_, number) | Self::Asset(_, number, _) | Self::ManifestPart(number) => {
                number.into()
            }
        }
    }
}

impl fmt::Display for MemberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("backup/header.json"),
            Self::Readme => f.write_str("backup/README.txt"),
            Self::Records(stream, number) => {
                write!(f, "backup/streams/{}/{number:06}.jsonl", stream.name())
            }
            Self::Asset(origin, number, id) => {
                write!(f, "backup/assets/{}/{number:08}-{id}", origin.word())
            }
            Self::ManifestPart(number) => write!(f, "backup/manifest/{number:06}.jsonl"),
            Self::Manifest => f.write_str("backup/manifest.json"),
        }
    }
}

impl FromStr for MemberName {
    type Err = NameError;

    /// Only the very text that [`fmt::Display`] writes is a name.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let parts: Vec<&str> = text.split('/').collect();
        let number = |text: &str| text.parse::<u32>().map_err(|_| NameError);
        let numbered = |text: &str| number(text.strip_suffix(".jsonl").ok_or(NameError)?);
        let asset = |origin, text: &str| {
            let (count, id) = text.split_once('-').ok_or(NameError)?;
            let id = id.parse().map_err(|_| NameError)?;
            Ok(Self::Asset(origin, number(count)?, id))
        };
        let name = match parts.as_slice() {
            ["backup", "header.json"] => Self::Header,
            ["backup", "README.txt"] => Self::Readme,
            ["backup", "manifest.json"] => Self::Manifest,
            ["backup", "manifest", file] => Self::ManifestPart(numbered(file)?),
            ["backup", "streams", stream, file] => {
                let stream = ArchivedStream::named(stream).ok_or(NameError)?;
                Self::Records(stream, numbered(file)?)
            }
            ["backup", "assets", "nats", file] => asset(AssetOrigin::Nats, file)?,
            ["backup", "assets", "s3", file] => asset(AssetOrigin::S3, file)?,
            _ => return Err(NameError),
        };
        if name.to_string() == text { Ok(name) } else { Err(NameError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> AssetId {
        "A00000000000001".parse().unwrap()
    }

    #[test]
    fn names_are_read_as_they_are_written_and_nothing_else_is_one() {
        let pages = ArchivedStream::Pages;
        for name in [
            MemberName::Header,
            MemberName::Readme,
            MemberName::Records(pages, 1),
            MemberName::Records(pages, 1_234_567),
            MemberName::Asset(AssetOrigin::Nats, 7, id()),
            MemberName::Asset(AssetOrigin::S3, 123_456_789, id()),
            MemberName::ManifestPart(2),
            MemberName::Manifest,
        ] {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        for text in [
            "",
            "/backup/header.json",
            "backup//header.json",
            "backup/../etc/passwd",
            "backup/streams/PAGES/1.jsonl",
            "backup/streams/PAGES/+00001.jsonl",
            "backup/streams/META/000001.jsonl",
            "backup/assets/nats/00000001-../../x",
            "backup/assets/nats/00000001-A0000000000000",
            "backup/other",
        ] {
            assert_eq!(text.parse::<MemberName>(), Err(NameError), "{text}");
        }
    }

    #[test]
    fn members_ascend() {
        use ArchivedStream::{Notifications, Pages};
        let ascending = [
            MemberName::Header,
            MemberName::Readme,
            MemberName::Records(Notifications, 1),
            MemberName::Records(Notifications, 2),
            MemberName::Records(Pages, 1),
            MemberName::Asset(AssetOrigin::Nats, 1, id()),
            MemberName::Asset(AssetOrigin::S3, 1, id()),
            MemberName::ManifestPart(1),
            MemberName::Manifest,
        ];
        let mut before = None;
        for name in ascending {
            assert!(name.may_follow(before), "{name}");
            assert!(!name.may_follow(Some(name)), "{name} twice");
            before = Some(name);
        }
        for (before, name) in [
            (MemberName::Header, MemberName::Records(Pages, 2)),
            (MemberName::Records(Pages, 1), MemberName::Records(Pages, 3)),
            (MemberName::Records(Pages, 1), MemberName::Records(Notifications, 1)),
            (MemberName::Manifest, MemberName::Header),
        ] {
            assert!(!name.may_follow(Some(before)), "{name} after {before}");
        }
        assert!(!MemberName::Readme.may_follow(None));
    }
}
