//! The key file: the data keys of users as JSON, encrypted with a passphrase in the format of `age`.
//!
//! It knows neither the store nor where the file is.

use std::collections::HashSet;
use std::io::{self, Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::crypto::age::{AgeError, AgeReader, AgeWriter, FORM_BYTES, Form};
use crate::crypto::{DataKey, Secret};
use crate::domain::UserId;
use crate::limits::{KEY_FILE_KEYS_MAX, KEY_FILE_MAX_BYTES, KEY_FILE_TEXT_MAX_BYTES};
use crate::observe::rfc3339;
use crate::storage::{StoredKey, is_key_id};

/// The version this program writes.
const VERSION: u64 = 1;
/// What the keys are for (draft-irtf-cfrg-xchacha-03).
const ALGORITHM: &str = "XChaCha20-Poly1305";
/// The first bytes of a gzip file, which a data archive is (RFC 1952, 2.3.1).
const GZIP: &[u8] = &[0x1f, 0x8b];

/// How many bytes of a file [`check_form`] needs.
pub const KEY_FILE_FORM_BYTES: usize = FORM_BYTES;

/// The keys of a store at one time.
#[derive(Debug)]
pub struct KeyFile {
    /// Of the store that the keys belong to.
    pub server_id: String,
    /// When the export was made, RFC 3339.
    pub time: String,
    pub keys: Vec<StoredKey>,
}

/// The file is not read.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error(transparent)]
    Age(AgeError),
    #[error("this is a data archive, not a key export; `chatto restore FILE` restores it")]
    DataArchive,
    #[error(
        "the key export has version {found}, and this program reads up to version {VERSION}; use the newer chatto \
         that made it"
    )]
    Newer { found: u64 },
    #[error("the file is decrypted, but it is no key export of chatto")]
    Foreign,
    /// Its text says something that no export says.
    #[error("the key export is damaged: {what}")]
    Damaged { what: &'static str },
    #[error("the key export is larger than {KEY_FILE_MAX_BYTES} bytes")]
    TooLarge,
}

/// Refuses what cannot be a key file, before anybody is asked for a passphrase.
///
/// # Errors
/// [`KeyFileError`]
pub fn check_form(start: &[u8]) -> Result<(), KeyFileError> {
    match Form::of(start) {
        Form::Age => Ok(()),
        Form::Armored => Err(KeyFileError::Age(AgeError::Armored)),
        Form::Other if start.starts_with(GZIP) => Err(KeyFileError::DataArchive),
        Form::Other => Err(KeyFileError::Age(AgeError::NotAge)),
    }
}

/// Whether a decrypted file begins as an export does.
pub(super) fn is_key_export(start: &[u8]) -> bool {
    let start = start.get(..KEY_FILE_TEXT_MAX_BYTES.saturating_mul(4)).unwrap_or(start);
    start.starts_with(b"{") && start.windows(11).any(|bytes| bytes == b"\"key_count\"")
}

impl KeyFile {
    /// An export that is made at this time, in milliseconds since 1970.
    #[must_use]
    pub fn new(server_id: String, unix_ms: i64, keys: Vec<StoredKey>) -> Self {
        Self { server_id, time: rfc3339(unix_ms), keys }
    }

    /// Encrypts the file.
    ///
    /// # Errors
    /// The output's error.
    pub fn write(&self, output: impl Write, passphrase: &Secret, factor: u8) -> io::Result<()> {
        let mut writer = AgeWriter::new(output, passphrase, factor)?;
        let document = WrittenDocument {
            version: VERSION,
            time: &self.time,
            server_id: &self.server_id,
            key_count: self.keys.len(),
            keys: &self.keys,
        };
        serde_json::to_writer(&mut writer, &document)?;
        writer.write_all(b"\n")?;
        writer.finish().map(drop)
    }

    /// Decrypts and checks a whole file.
    ///
    /// # Errors
    /// [`KeyFileError`]
    pub fn read(
        input: impl Read,
        passphrase: &Secret,
        work_factor_max: u8,
    ) -> Result<Self, KeyFileError> {
        let reader =
            AgeReader::open(input, passphrase, work_factor_max).map_err(KeyFileError::Age)?;
        let mut text = Zeroizing::new(Vec::new());
        let limit = KEY_FILE_MAX_BYTES.saturating_add(1);
        let read = reader.take(limit).read_to_end(&mut text);
        let read = read.map_err(|error| KeyFileError::Age(AgeError::from_io(error)))?;
        if text.starts_with(GZIP) {
            return Err(KeyFileError::DataArchive);
        }
        if u64::try_from(read).is_ok_and(|read| read > KEY_FILE_MAX_BYTES) {
            return Err(KeyFileError::TooLarge);
        }
        Self::parse(&text)
    }

    fn parse(text: &[u8]) -> Result<Self, KeyFileError> {
        let about: About = serde_json::from_slice(text).map_err(|_| KeyFileError::Foreign)?;
        if about.version > VERSION {
            return Err(KeyFileError::Newer { found: about.version });
        }
        let document: Document =
            serde_json::from_slice(text).map_err(|_| damaged("a field is missing or malformed"))?;
        document.check()
    }
}

/// What every version has.
#[derive(Deserialize)]
struct About {
    version: u64,
    #[serde(rename = "key_count")]
    _key_count: u64,
}

#[derive(Deserialize)]
struct Document {
    time: String,
    server_id: String,
    key_count: usize,
    keys: Vec<Entry>,
}

#[derive(Serialize)]
struct WrittenDocument<'a> {
    version: u64,
    time: &'a str,
    server_id: &'a str,
    key_count: usize,
    #[serde(serialize_with = "entries")]
    keys: &'a [StoredKey],
}

#[derive(Serialize, Deserialize)]
struct Entry {
    user_id: String,
    key_id: String,
    algorithm: String,
    active: bool,
    key: KeyText,
}

/// A key in base64.
struct KeyText(DataKey);

impl Document {
    fn check(self) -> Result<KeyFile, KeyFileError> {
        if self.key_count != self.keys.len() {
            return Err(damaged("the number of its keys is not key_count"));
        }
        if self.keys.len() > KEY_FILE_KEYS_MAX {
            return Err(damaged("it has more keys than any store"));
        }
        for text in [&self.time, &self.server_id] {
            let is_word = text.bytes().all(|byte| byte.is_ascii_graphic());
            if !is_word || text.is_empty() || text.len() > KEY_FILE_TEXT_MAX_BYTES {
                return Err(damaged("time or server_id is not what chatto writes"));
            }
        }
        let mut names = HashSet::new();
        let mut active = HashSet::new();
        let mut keys = Vec::with_capacity(self.keys.len());
        for entry in self.keys {
            let key = entry.check()?;
            if !names.insert((key.user, key.key_id.clone())) {
                return Err(damaged("a key is there twice"));
            }
            if key.is_active && !active.insert(key.user) {
                return Err(damaged("a user has two active keys"));
            }
            keys.push(key);
        }
        Ok(KeyFile { server_id: self.server_id, time: self.time, keys })
    }
}

impl Entry {
    fn check(self) -> Result<StoredKey, KeyFileError> {
        if self.algorithm != ALGORITHM {
            return Err(damaged("a key has an unknown algorithm"));
        }
        let user = UserId::try_from(self.user_id.as_str());
        let user = user.map_err(|_| damaged("a user id is malformed"))?;
        if !is_key_id(&self.key_id) {
            return Err(damaged("a key id is malformed"));
        }
        Ok(StoredKey { user, key_id: self.key_id, is_active: self.active, key: self.key.0 })
    }
}

impl Serialize for KeyText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = Zeroizing::new(BASE64.encode(self.0.expose()));
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for KeyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let malformed = || serde::de::Error::custom("malformed key");
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let bytes = Zeroizing::new(BASE64.decode(text.as_bytes()).map_err(|_| malformed())?);
        DataKey::from_slice(&bytes).map(Self).ok_or_else(malformed)
    }
}

fn entries<S: Serializer>(keys: &[StoredKey], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(keys.iter().map(|key| Entry {
        user_id: key.user.to_string(),
        key_id: key.key_id.clone(),
        algorithm: ALGORITHM.to_owned(),
        active: key.is_active,
        key: KeyText(key.key.clone()),
    }))
}

fn damaged(what: &'static str) -> KeyFileError {
    KeyFileError::Damaged { what }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn passphrase() -> Secret {
        Secret::from("correct horse battery".to_owned())
    }

    fn key(user: u64, key_id: &str, is_active: bool) -> StoredKey {
        let user = UserId::from_number(user);
        StoredKey { user, key_id: key_id.to_owned(), is_active, key: DataKey::generate() }
    }

    fn file() -> KeyFile {
        let keys = vec![
            key(1, "0011223344556677", false),
            key(1, "8899aabbccddeeff", true),
            key(2, "0011223344556677", true),
        ];
        KeyFile::new("S0011".to_owned(), 1_700_000_000_000, keys)
    }

    fn written(file: &KeyFile) -> Vec<u8> {
        let mut bytes = Vec::new();
        file.write(&mut bytes, &passphrase(), 2).unwrap();
        bytes
    }

    fn encrypted(text: &[u8]) -> Vec<u8> {
        let mut writer = AgeWriter::new(Vec::new(), &passphrase(), 2).unwrap();
        writer.write_all(text).unwrap();
        writer.finish().unwrap()
    }

    fn document() -> Value {
        let file = written(&file());
        let reader = AgeReader::open(file.as_slice(), &passphrase(), 16).unwrap();
        serde_json::from_reader(io::BufReader::new(reader)).unwrap()
    }

    fn read(bytes: &[u8]) -> Result<KeyFile, KeyFileError> {
        KeyFile::read(bytes, &passphrase(), 16)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let file = file();
        let read = read(&written(&file)).unwrap();
        assert_eq!((&read.server_id, &read.time), (&file.server_id, &file.time));
        assert_eq!(read.keys.len(), 3);
        for (read, written) in read.keys.iter().zip(&file.keys) {
            assert_eq!((read.user, &read.key_id), (written.user, &written.key_id));
            assert_eq!(read.is_active, written.is_active);
            assert_eq!(read.key.expose(), written.key.expose());
        }
    }

    #[test]
    fn the_text_has_the_documented_fields() {
        let document = document();
        assert_eq!(document["version"], 1);
        assert_eq!(document["time"], "2023-11-14T22:13:20.000Z");
        assert_eq!(document["server_id"], "S0011");
        assert_eq!(document["key_count"], 3);
        let first = &document["keys"][0];
        assert_eq!(first["user_id"], UserId::from_number(1).as_str());
        assert_eq!(first["key_id"], "0011223344556677");
        assert_eq!(first["algorithm"], "XChaCha20-Poly1305");
        assert_eq!(first["active"], false);
        assert_eq!(BASE64.decode(first["key"].as_str().unwrap()).unwrap().len(), 32);
    }

    #[test]
    fn a_file_without_keys_is_valid() {
        let file = KeyFile { keys: Vec::new(), ..file() };
        assert!(read(&written(&file)).unwrap().keys.is_empty());
    }

    #[test]
    fn what_no_export_says_is_damage() {
        type Change = fn(&mut Value);
        let changes: [(&str, Change); 12] = [
            ("key_count", |d| d["key_count"] = json!(2)),
            ("missing field", |d| drop(d.as_object_mut().unwrap().remove("server_id"))),
            ("server id", |d| d["server_id"] = json!("S 1\n")),
            ("empty server id", |d| d["server_id"] = json!("")),
            ("long time", |d| d["time"] = json!("2".repeat(100))),
            ("user id", |d| d["keys"][0]["user_id"] = json!("U.>")),
            ("key id", |d| d["keys"][0]["key_id"] = json!("00112233445566zz")),
            ("upper case", |d| d["keys"][0]["key_id"] = json!("001122334455667A")),
            ("algorithm", |d| d["keys"][0]["algorithm"] = json!("AES")),
            ("short key", |d| d["keys"][0]["key"] = json!("AAAA")),
            ("twice", |d| d["keys"][1]["key_id"] = json!("0011223344556677")),
            ("two active", |d| d["keys"][0]["active"] = json!(true)),
        ];
        for (what, change) in changes {
            let mut document = document();
            change(&mut document);
            let text = document.to_string();
            let read = read(&encrypted(text.as_bytes()));
            assert!(matches!(read, Err(KeyFileError::Damaged { .. })), "{what}: {read:?}");
            let said = read.unwrap_err().to_string();
            assert!(!said.contains("AAAA"), "{said}");
        }
    }

    #[test]
    fn other_files_are_named() {
        assert!(matches!(check_form(GZIP), Err(KeyFileError::DataArchive)));
        assert!(matches!(check_form(b"{}"), Err(KeyFileError::Age(AgeError::NotAge))));
        let armored = b"-----BEGIN AGE ENCRYPTED FILE-----";
        assert!(matches!(check_form(armored), Err(KeyFileError::Age(AgeError::Armored))));
        assert!(check_form(&written(&file())).is_ok());
        assert!(matches!(read(&encrypted(b"\x1f\x8b\x08")), Err(KeyFileError::DataArchive)));
        for text in ["", "{}", "[1]", "not JSON", "{\"version\": 1}"] {
            assert!(matches!(read(&encrypted(text.as_bytes())), Err(KeyFileError::Foreign)));
        }
        let newer = encrypted(br#"{"version": 2, "key_count": 1, "keys": {}}"#);
        let said = read(&newer).unwrap_err().to_string();
        assert!(said.contains("version 2") && said.contains("version 1"), "{said}");
    }

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let limit = usize::try_from(KEY_FILE_MAX_BYTES).unwrap();
        let spaces = encrypted(&vec![b' '; limit + 1]);
        assert!(matches!(read(&spaces), Err(KeyFileError::TooLarge)));
    }

    /// The largest file that this program writes.
    #[test]
    fn all_keys_fit_into_the_limits() {
        let entry = Entry {
            user_id: UserId::from_number(1).to_string(),
            key_id: "0011223344556677".to_owned(),
            algorithm: ALGORITHM.to_owned(),
            active: false,
            key: KeyText(DataKey::generate()),
        };
        let length = u64::try_from(serde_json::to_vec(&entry).unwrap().len() + 1).unwrap();
        let keys = u64::try_from(KEY_FILE_KEYS_MAX).unwrap();
        assert!(keys * length + 1024 < KEY_FILE_MAX_BYTES, "{length}");
    }
}
