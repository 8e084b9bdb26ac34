//! Target: key exports, and with them the files of age.
//!
//! The first byte of an input chooses what the others are: the file as it is, or the text in it, which is encrypted
//! with the right passphrase. What is read must be the same after it was written again, and a file whose first bytes
//! are refused must not be readable.

use std::io::{Cursor, Write};

use chatto::backup::keys::{KEY_FILE_FORM_BYTES, KeyFile, KeyFileError, check_form};
use chatto::crypto::age::AgeWriter;
use chatto::crypto::{DataKey, Secret};
use chatto::domain::UserId;
use chatto::storage::StoredKey;

/// The lowest: each input costs a derivation or two.
const FACTOR: u8 = 1;

fn passphrase() -> Secret {
    Secret::from("correct horse battery".to_owned())
}

fn read(file: &[u8]) -> Result<KeyFile, KeyFileError> {
    // Of what a header may ask for, at most 1 MiB is derived.
    KeyFile::read(Cursor::new(file), &passphrase(), 10)
}

fn written(keys: &KeyFile) -> Vec<u8> {
    let mut file = Vec::new();
    keys.write(&mut file, &passphrase(), FACTOR).unwrap();
    file
}

fn encrypted(text: &[u8]) -> Vec<u8> {
    let mut writer = AgeWriter::new(Vec::new(), &passphrase(), FACTOR).unwrap();
    writer.write_all(text).unwrap();
    writer.finish().unwrap()
}

/// Everything that a file says.
fn said(keys: &KeyFile) -> String {
    let key = |key: &StoredKey| {
        format!("{} {} {} {:?}", key.user, key.key_id, key.is_active, key.key.expose())
    };
    let keys_said: Vec<String> = keys.keys.iter().map(key).collect();
    format!("{} {} {keys_said:?}", keys.server_id, keys.time)
}

fn target(input: &[u8]) -> Result<(bool, String), String> {
    let [form, bytes @ ..] = input else { return Ok((false, String::new())) };
    let is_text = form % 2 == 1;
    let file = if is_text { encrypted(bytes) } else { bytes.to_vec() };
    let first_bytes = &file[..file.len().min(KEY_FILE_FORM_BYTES)];
    let form = check_form(first_bytes);
    match read(&file) {
        Ok(keys) => {
            form.map_err(|error| format!("{error}, and yet it is read"))?;
            let again = read(&written(&keys)).map_err(|error| error.to_string())?;
            if said(&again) != said(&keys) {
                return Err(format!("{} became {}", said(&keys), said(&again)));
            }
            Ok((is_text, format!("{} keys", keys.keys.len())))
        }
        Err(error) => {
            let text = error.to_string();
            Ok((is_text, text.chars().filter(|c| !c.is_ascii_digit()).collect()))
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let key = |user, key_id: &str, is_active| StoredKey {
        user: UserId::from_number(user),
        key_id: key_id.to_owned(),
        is_active,
        key: DataKey::generate(),
    };
    let keys = vec![key(1, "0011223344556677", true), key(2, "8899aabbccddeeff", false)];
    let file = written(&KeyFile::new("S0011".to_owned(), 1_700_000_000_000, keys));
    let user = UserId::from_number(1);
    let text = format!(
        "{{\"version\":1,\"time\":\"2023-11-14T22:13:20.000Z\",\"server_id\":\"S0011\",\"key_count\":1,\"keys\":[\
         {{\"user_id\":\"{user}\",\"key_id\":\"0011223344556677\",\"algorithm\":\"XChaCha20-Poly1305\",\
         \"active\":true,\"key\":\"{}=\"}}]}}",
        "A".repeat(43)
    );
    let seeds = vec![[&[0], &file[..]].concat(), [&[1], text.as_bytes()].concat()];
    for seed in &seeds {
        let read = target(seed).unwrap().1;
        assert!(read.ends_with(" keys"), "{read}");
    }
    seeds
}

const DICTIONARY: &[&[u8]] = &[
    b"age-encryption.org/v1\n",
    b"age-encryption.org/v2\n",
    b"-> scrypt ",
    b"-> X25519 ",
    b" 10\n",
    b" 255\n",
    b"\n--- ",
    b"-----BEGIN AGE ENCRYPTED FILE-----\n",
    b"\x1f\x8b\x08",
    b"\"keys\":[]",
    b"\"key_count\":0",
    b"\"version\":2",
    b"null",
    b"{}",
    b",",
    b"\"\\ud800\"",
    b"18446744073709551615",
    b"U00000000000002",
    b"[[[[[[[[",
];

#[test]
fn key_exports_take_any_bytes() {
    super::run("keys", seeds(), DICTIONARY, 3_000, target);
}
