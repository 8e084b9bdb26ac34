//! The memory sticks that are paired with this machine: `usb-sticks.toml` beside the configuration file.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::limits::{STICK_NAME_MAX_CHARACTERS, STICKS_FILE_MAX_BYTES};
use crate::runtime::{limited_read, write_durably_for};

/// The name of the file.
const FILE: &str = "usb-sticks.toml";

const HEAD: &str = "\
# Memory sticks that `chatto usb pair` has paired with this machine. Plugging one in makes a backup on it.
# `chatto usb list` shows them, `chatto usb forget NAME` removes one.

";

/// A paired stick.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Stick {
    /// What people call it.
    pub name: String,
    /// 128 random bits in hexadecimal, as in `CHATTO/stick.json` on the stick.
    pub id: String,
    /// Of its file system, as udev writes it (`ID_FS_UUID`).
    pub uuid: String,
    /// Whether an export of people's keys is written beside the backups.
    pub with_keys: bool,
    /// RFC 3339.
    pub paired_at: String,
}

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SticksError {
    #[error("cannot read the list of paired sticks, {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the list of paired sticks, {}, is not valid: {why}", path.display())]
    Invalid { path: PathBuf, why: String },
    #[error("cannot write the list of paired sticks, {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The paired sticks.
#[derive(Debug, Clone)]
pub struct Sticks {
    path: PathBuf,
    list: Vec<Stick>,
}

#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    stick: Vec<Stick>,
}

impl Sticks {
    /// Reads the file beside this configuration file; `None` as in `/etc/chatto`. No file is an empty list.
    ///
    /// # Errors
    /// [`SticksError`]
    pub fn read(config_file: Option<&Path>) -> Result<Self, SticksError> {
        let directory = config_file.and_then(Path::parent).unwrap_or(Path::new("/etc/chatto"));
        let path = directory.join(FILE);
        let bytes = match limited_read(&path, STICKS_FILE_MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(SticksError::Read { path, source }),
        };
        let text = std::str::from_utf8(&bytes).map_err(|error| error.to_string());
        let content: Result<Content, String> =
            text.and_then(|text| toml::from_str(text).map_err(|error| error.message().to_owned()));
        match content.and_then(|content| check(content.stick)) {
            Ok(list) => Ok(Self { path, list }),
            Err(why) => Err(SticksError::Invalid { path, why }),
        }
    }

    /// All of them.
    #[must_use]
    pub fn list(&self) -> &[Stick] {
        &self.list
    }

    /// The one whose file system has this UUID.
    #[must_use]
    pub fn by_uuid(&self, uuid: &str) -> Option<&Stick> {
        self.list.iter().find(|stick| stick.uuid == uuid)
    }

    /// The one of this name, UUID or id.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Stick> {
        self.list
            .iter()
            .find(|stick| [&stick.name, &stick.uuid, &stick.id].contains(&&name.to_owned()))
    }

    /// Adds a stick, in the place of one with the same UUID or id.
    ///
    /// # Errors
    /// [`SticksError`]; the file is unchanged then.
    pub fn add(&mut self, stick: Stick) -> Result<(), SticksError> {
        self.list.retain(|one| one.uuid != stick.uuid && one.id != stick.id);
        self.list.push(stick);
        self.write()
    }

    /// Removes a stick.
    ///
    /// # Errors
    /// [`SticksError`]; the file is unchanged then.
    pub fn remove(&mut self, id: &str) -> Result<(), SticksError> {
        self.list.retain(|one| one.id != id);
        self.write()
    }

    fn write(&self) -> Result<(), SticksError> {
        let failed = |source| SticksError::Write { path: self.path.clone(), source };
        let entries: Vec<String> = self.list.iter().map(entry).collect();
        let text = format!("{HEAD}{}", entries.join("\n"));
        let directory = self.path.parent().filter(|directory| !directory.as_os_str().is_empty());
        let about = directory.unwrap_or(Path::new(".")).metadata().map_err(failed)?;
        // The service's group may read it, as it may the configuration.
        write_durably_for(&self.path, text.as_bytes(), (about.gid(), 0o640)).map_err(failed)
    }
}

/// A stick as the file has it. None of its texts has control characters.
fn entry(stick: &Stick) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    format!(
        "[[stick]]\nname = {}\nid = {}\nuuid = {}\nwith_keys = {}\npaired_at = {}\n",
        quoted(&stick.name),
        quoted(&stick.id),
        quoted(&stick.uuid),
        stick.with_keys,
        quoted(&stick.paired_at)
    )
}

/// Whether a text can be the name of a stick.
#[must_use]
pub fn is_stick_name(name: &str) -> bool {
    !name.trim().is_empty()
        && name.trim() == name
        && name.chars().count() <= STICK_NAME_MAX_CHARACTERS
        && !name.chars().any(char::is_control)
}

/// Whether a text is the id of a stick.
#[must_use]
pub fn is_stick_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn check(list: Vec<Stick>) -> Result<Vec<Stick>, String> {
    for stick in &list {
        if !is_stick_name(&stick.name) {
            return Err("a stick has a name that is empty, too long or not printable".to_owned());
        }
        if !is_stick_id(&stick.id)
            || stick.uuid.is_empty()
            || stick.uuid.chars().any(char::is_control)
        {
            return Err(format!("the id or uuid of the stick {} is not one", stick.name));
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn stick(name: &str, id: char, uuid: &str) -> Stick {
        Stick {
            name: name.to_owned(),
            id: id.to_string().repeat(32),
            uuid: uuid.to_owned(),
            with_keys: false,
            paired_at: "2026-11-21T06:00:00.000Z".to_owned(),
        }
    }

    #[test]
    fn sticks_are_added_replaced_found_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("chatto.toml");
        let read = || Sticks::read(Some(&config)).unwrap();
        assert_eq!(read().list(), []);
        read().add(stick("Blue", 'a', "ABCD-1234")).unwrap();
        read().add(stick("Red \"2\"", 'b', "1")).unwrap();
        read().add(stick("Blue again", 'a', "EF01-0000")).unwrap();
        let sticks = read();
        assert_eq!(sticks.list().len(), 2);
        assert_eq!(sticks.by_uuid("EF01-0000").unwrap().name, "Blue again");
        assert!(sticks.by_uuid("ABCD-1234").is_none());
        let id = sticks.named("Red \"2\"").unwrap().id.clone();
        read().remove(&id).unwrap();
        assert!(read().named(&id).is_none());
        let mode = folder.path().join(FILE).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }

    #[test]
    fn a_list_that_is_not_valid_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("chatto.toml");
        for (text, why) in [
            ("[[stick]]\nname = 1\n", "invalid type"),
            (
                "[[stick]]\nname = 'Blue'\nid = 'x'\nuuid = 'y'\nwith_keys = false\npaired_at = ''\n",
                "id or uuid",
            ),
            ("\u{fffd}[", "expected"),
        ] {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            let error = Sticks::read(Some(&config)).unwrap_err().to_string();
            assert!(error.contains("usb-sticks.toml") && error.contains(why), "{error}");
        }
    }
}
