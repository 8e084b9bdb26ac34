//! Files encrypted by passphrase in the format `age-encryption.org/v1` (C2SP `age.md`), which the `age` tool reads and
//! writes: a streaming writer and a streaming reader.
//!
//! A file has exactly one recipient, of type scrypt. Both sides work on chunks of 64 KiB; the memory of scrypt is free
//! again before the first byte passes.

use std::io::{self, Chain, Cursor, Read, Write};

use age::scrypt::{Identity, Recipient};
use age::secrecy::SecretString;
use age::stream::{StreamReader, StreamWriter};
use age::{DecryptError, Decryptor, Encryptor};

use super::Secret;
use crate::limits::{AGE_HEADER_MAX_BYTES, AGE_WORK_FACTOR_MAX};
use crate::runtime::return_free_memory;

const VERSION_LINE: &[u8] = b"age-encryption.org/v1\n";
const VERSION_PREFIX: &[u8] = b"age-encryption.org/";
const ARMOR_LINE: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";
/// A line that starts the only stanza of a file encrypted by passphrase.
const SCRYPT_STANZA: &[u8] = b"-> scrypt ";
/// A line that ends the header.
const MAC_LINE: &[u8] = b"\n--- ";
/// scrypt's block size `r`, fixed by the format.
const SCRYPT_BLOCK_SIZE: u64 = 8;

/// How many bytes of a file [`Form::of`] needs.
pub const FORM_BYTES: usize = ARMOR_LINE.len();

/// What a file is, as its first bytes show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The binary form of age, of any version.
    Age,
    /// The text form of age, which is not read here.
    Armored,
    Other,
}

/// A file is not read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum AgeError {
    /// Also when the part of the header that holds the wrapped key is damaged: the format cannot tell these apart.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    #[error("the encrypted file is damaged or incomplete")]
    Damaged,
    #[error("the file is not encrypted with age")]
    NotAge,
    #[error(
        "the file is in the text form of age. Convert it: `age -d` reads it, `age -p` without --armor writes the \
         binary form"
    )]
    Armored,
    #[error("the file is encrypted for a key, not with a passphrase")]
    NotByPassphrase,
    #[error("the file is encrypted with a newer version of age than v1")]
    Newer,
    #[error(
        "the file needs {} of memory to decrypt (scrypt work factor {factor}; up to {factor_max} is accepted here)",
        memory_text(*factor)
    )]
    TooMuchWork { factor: u8, factor_max: u8 },
    #[error("cannot read the encrypted file")]
    Read(#[source] io::Error),
}

/// Encrypts what is written to it.
pub struct AgeWriter<W: Write>(StreamWriter<W>);

/// Decrypts what is read from it. Bytes are authentic once they are read, but only a read that returns 0 shows that
/// the file is complete and that nothing follows it.
pub struct AgeReader<R: Read>(StreamReader<Chain<Cursor<Vec<u8>>, R>>);

impl Form {
    /// The form of a file that begins with these bytes; [`FORM_BYTES`] are enough.
    #[must_use]
    pub fn of(start: &[u8]) -> Self {
        if start.starts_with(VERSION_PREFIX) {
            Self::Age
        } else if start.trim_ascii_start().starts_with(ARMOR_LINE) {
            Self::Armored
        } else {
            Self::Other
        }
    }
}

impl AgeError {
    /// The error behind one that [`AgeReader`] or a reader on top of it has returned.
    #[must_use]
    pub fn from_io(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => error,
            Err(error) => Self::Read(error),
        }
    }
}

/// What encrypts one file: the key is derived, and nothing is written yet.
pub struct Encryption(Encryptor);

impl Encryption {
    /// Derives the key, which takes [`memory_needed`] for the work factor for that long.
    ///
    /// # Errors
    /// `InvalidInput` for a work factor of 0 or above [`AGE_WORK_FACTOR_MAX`].
    pub fn new(passphrase: &Secret, work_factor: u8) -> io::Result<Self> {
        if !(1..=AGE_WORK_FACTOR_MAX).contains(&work_factor) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut recipient = Recipient::new(text(passphrase));
        recipient.set_work_factor(work_factor);
        let recipients: [&dyn age::Recipient; 1] = [&recipient];
        let encryptor = Encryptor::with_recipients(recipients.into_iter());
        return_free_memory();
        encryptor.map_err(io::Error::other).map(Self)
    }

    /// Writes the header.
    ///
    /// # Errors
    /// The output's error.
    pub fn begin<W: Write>(self, output: W) -> io::Result<AgeWriter<W>> {
        self.0.wrap_output(output).map(AgeWriter)
    }
}

impl<W: Write> AgeWriter<W> {
    /// [`Encryption::new`] and [`Encryption::begin`].
    ///
    /// # Errors
    /// As theirs.
    pub fn new(output: W, passphrase: &Secret, work_factor: u8) -> io::Result<Self> {
        Encryption::new(passphrase, work_factor)?.begin(output)
    }

    /// Writes the last chunk; without it the file counts as truncated.
    ///
    /// # Errors
    /// The output's error.
    pub fn finish(self) -> io::Result<W> {
        self.0.finish()
    }
}

impl<W: Write> Write for AgeWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    /// Flushes the output; an incomplete chunk stays here.
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<R: Read> AgeReader<R> {
    /// Reads the header and derives the key, with a work factor of at most `work_factor_max`: see
    /// [`work_factor_within`].
    ///
    /// # Errors
    /// [`AgeError`]
    pub fn open(mut input: R, passphrase: &Secret, work_factor_max: u8) -> Result<Self, AgeError> {
        let start = start_of(&mut input)?;
        check_header(&start)?;
        let decryptor = Decryptor::new(Cursor::new(start).chain(input)).map_err(header_error)?;
        if !decryptor.is_scrypt() {
            return Err(AgeError::NotByPassphrase);
        }
        let mut identity = Identity::new(text(passphrase));
        identity.set_max_work_factor(work_factor_max);
        let identities: [&dyn age::Identity; 1] = [&identity];
        let decrypted = decryptor.decrypt(identities.into_iter());
        return_free_memory();
        decrypted.map(Self).map_err(|error| match error {
            DecryptError::ExcessiveWork { required, .. } => {
                AgeError::TooMuchWork { factor: required, factor_max: work_factor_max }
            }
            error => header_error(error),
        })
    }
}

impl<R: Read> Read for AgeReader<R> {
    /// # Errors
    /// The input's error, or `InvalidData` with [`AgeError::Damaged`] inside.
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes).map_err(|error| if is_damage(&error) { damaged() } else { error })
    }
}

/// The memory that scrypt takes for a work factor, in bytes; [`u64::MAX`] when a number has no room for it.
#[must_use]
pub fn memory_needed(work_factor: u8) -> u64 {
    let block = 128 * SCRYPT_BLOCK_SIZE;
    1_u64
        .checked_shl(work_factor.into())
        .and_then(|blocks| blocks.checked_mul(block))
        .unwrap_or(u64::MAX)
}

/// The largest work factor to accept from a file when this much memory may be used, at most [`AGE_WORK_FACTOR_MAX`].
#[must_use]
pub fn work_factor_within(memory_bytes: u64) -> u8 {
    (1..=AGE_WORK_FACTOR_MAX)
        .rev()
        .find(|factor| memory_needed(*factor) <= memory_bytes)
        .unwrap_or(1)
}

fn memory_text(work_factor: u8) -> String {
    match memory_needed(work_factor) {
        u64::MAX => "more than 16 EB".to_owned(),
        bytes if bytes < 10_000_000_000 => format!("{} MB", bytes.div_ceil(1_000_000)),
        bytes => format!("{} GB", bytes.div_ceil(1_000_000_000)),
    }
}

fn text(passphrase: &Secret) -> SecretString {
    SecretString::from(passphrase.to_text())
}

/// The beginning of a file: the whole header, if there is one.
fn start_of(input: &mut impl Read) -> Result<Vec<u8>, AgeError> {
    let mut start = Vec::with_capacity(AGE_HEADER_MAX_BYTES);
    let limit = u64::try_from(AGE_HEADER_MAX_BYTES).unwrap_or(u64::MAX);
    input.take(limit).read_to_end(&mut start).map_err(AgeError::Read)?;
    Ok(start)
}

/// Checks what the parser would report less clearly, and that the header ends: the parser has no limit of its own.
fn check_header(start: &[u8]) -> Result<(), AgeError> {
    match Form::of(start) {
        Form::Age => {}
        Form::Armored => return Err(AgeError::Armored),
        Form::Other => return Err(AgeError::NotAge),
    }
    let Some(stanzas) = start.strip_prefix(VERSION_LINE) else {
        let is_whole_line = start.contains(&b'\n');
        return Err(if is_whole_line { AgeError::Newer } else { AgeError::Damaged });
    };
    if stanzas.starts_with(b"-> ") && !stanzas.starts_with(SCRYPT_STANZA) {
        return Err(AgeError::NotByPassphrase);
    }
    let ends = start.windows(MAC_LINE.len()).any(|bytes| bytes == MAC_LINE);
    if ends { Ok(()) } else { Err(AgeError::Damaged) }
}

fn header_error(error: DecryptError) -> AgeError {
    match error {
        DecryptError::Io(error) if !is_damage(&error) => AgeError::Read(error),
        // Of the wrapped key: the payload is not read yet.
        DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => {
            AgeError::WrongPassphrase
        }
        // Also `UnknownFormat`, which the parser returns for every header that it cannot parse: check_header has seen
        // the version line of v1.
        _ => AgeError::Damaged,
    }
}

/// Whether the format's reader returned this error, not the input: errors of the system have a number.
fn is_damage(error: &io::Error) -> bool {
    let kind = error.kind();
    let is_format = matches!(kind, io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof);
    is_format && error.raw_os_error().is_none()
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, AgeError::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = 64 * 1024;
    const TAG: usize = 16;
    const FACTOR: u8 = 2;

    fn passphrase() -> Secret {
        Secret::from("correct horse battery".to_owned())
    }

    fn encrypt(plain: &[u8], factor: u8) -> Vec<u8> {
        let mut writer = AgeWriter::new(Vec::new(), &passphrase(), factor).unwrap();
        for piece in plain.chunks(10_000) {
            writer.write_all(piece).unwrap();
        }
        writer.finish().unwrap()
    }

    fn decrypt(file: &[u8]) -> Result<Vec<u8>, AgeError> {
        let mut reader = AgeReader::open(file, &passphrase(), 16)?;
        let mut plain = Vec::new();
        reader.read_to_end(&mut plain).map_err(AgeError::from_io)?;
        Ok(plain)
    }

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect()
    }

    fn header_length(file: &[u8]) -> usize {
        let mac = file.windows(5).position(|five| five == MAC_LINE).unwrap();
        // The MAC, its line end, and the nonce of the payload.
        mac + MAC_LINE.len() + 43 + 1 + 16
    }

    #[test]
    fn what_is_written_is_read_back_at_every_length_near_a_chunk() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1] {
            let plain = bytes(length);
            assert_eq!(decrypt(&encrypt(&plain, FACTOR)).unwrap(), plain, "{length}");
        }
    }

    #[test]
    fn the_header_is_age_s_with_one_scrypt_recipient() {
        let file = encrypt(b"x", 15);
        assert_eq!(Form::of(&file), Form::Age);
        let text = String::from_utf8_lossy(&file);
        let lines: Vec<&str> = text.lines().take(4).collect();
        assert_eq!(lines[0], "age-encryption.org/v1");
        assert!(lines[1].starts_with("-> scrypt ") && lines[1].ends_with(" 15"), "{lines:?}");
        assert!(lines[3].starts_with("--- "), "{lines:?}");
    }

    #[test]
    fn another_passphrase_and_damage_are_different_errors() {
        let file = encrypt(b"x", FACTOR);
        let other = Secret::from("correct horse batterz".to_owned());
        let opened = AgeReader::open(file.as_slice(), &other, 16);
        assert!(matches!(opened, Err(AgeError::WrongPassphrase)));
    }

    #[test]
    fn changed_bits_are_noticed() {
        let file = encrypt(&bytes(100), FACTOR);
        let payload = header_length(&file);
        // Each attempt costs the derivation of a key, so some bytes stand for all.
        for position in (0..payload).step_by(5) {
            let mut changed = file.clone();
            changed[position] ^= 1;
            assert!(decrypt(&changed).is_err(), "byte {position}");
        }
        for position in (payload..file.len()).step_by(7) {
            let mut changed = file.clone();
            changed[position] ^= 1 << (position % 8);
            assert!(matches!(decrypt(&changed), Err(AgeError::Damaged)), "byte {position}");
        }
        // In the header's MAC: other characters of its alphabet and one that is not in it.
        for character in *b"AB@" {
            let mut changed = file.clone();
            changed[payload - 20] = character;
            if changed != file {
                let decrypted = decrypt(&changed);
                assert!(matches!(decrypted, Err(AgeError::Damaged)), "{decrypted:?}");
            }
        }
    }

    #[test]
    fn a_changed_bit_is_noticed_beside_every_border_of_chunks() {
        let file = encrypt(&bytes(2 * CHUNK), FACTOR);
        let first = header_length(&file);
        let second = first + CHUNK + TAG;
        for position in [first, second - TAG - 1, second - 1, second, file.len() - 1] {
            let mut changed = file.clone();
            changed[position] ^= 1;
            assert!(matches!(decrypt(&changed), Err(AgeError::Damaged)), "byte {position}");
        }
    }

    #[test]
    fn a_truncated_or_longer_file_is_damaged() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK] {
            let file = encrypt(&bytes(length), FACTOR);
            let payload = header_length(&file);
            let border = payload + CHUNK + TAG;
            let ends = [
                payload - 1,
                payload,
                payload + 1,
                border - 1,
                border,
                border + 1,
                file.len() - TAG,
                file.len() - 1,
            ];
            for end in ends.into_iter().filter(|end| *end < file.len()) {
                let short = decrypt(&file[..end]);
                assert!(
                    matches!(short, Err(AgeError::Damaged)),
                    "{length} cut at {end}: {short:?}"
                );
            }
            let longer = [file.as_slice(), b"x"].concat();
            assert!(matches!(decrypt(&longer), Err(AgeError::Damaged)), "{length} and one byte");
            let twice = [file.as_slice(), &file[payload..]].concat();
            assert!(matches!(decrypt(&twice), Err(AgeError::Damaged)), "{length} twice");
        }
    }

    #[test]
    fn chunks_cannot_change_places() {
        let file = encrypt(&bytes(3 * CHUNK), FACTOR);
        let (payload, size) = (header_length(&file), CHUNK + TAG);
        let (first, second) = (payload..payload + size, payload + size..payload + 2 * size);
        let swapped =
            [&file[..payload], &file[second], &file[first], &file[payload + 2 * size..]].concat();
        assert!(matches!(decrypt(&swapped), Err(AgeError::Damaged)));
    }

    #[test]
    fn other_files_are_named() {
        let armored = b"-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n".as_slice();
        assert_eq!(Form::of(armored), Form::Armored);
        assert!(matches!(decrypt(armored), Err(AgeError::Armored)));
        assert_eq!(Form::of(b"\x1f\x8b\x08"), Form::Other);
        assert!(matches!(decrypt(b"\x1f\x8b\x08"), Err(AgeError::NotAge)));
        assert!(matches!(decrypt(b""), Err(AgeError::NotAge)));
        assert!(matches!(decrypt(b"age-encryption.org/v2\n-> x\n"), Err(AgeError::Newer)));
        let recipient = age::x25519::Identity::generate().to_public();
        let recipients: [&dyn age::Recipient; 1] = [&recipient];
        let encryptor = Encryptor::with_recipients(recipients.into_iter()).unwrap();
        let file = encryptor.wrap_output(Vec::new()).unwrap().finish().unwrap();
        assert!(matches!(decrypt(&file), Err(AgeError::NotByPassphrase)));
    }

    #[test]
    fn a_header_without_end_is_not_read_for_ever() {
        let start = Cursor::new(b"age-encryption.org/v1\n-> scrypt ".to_vec());
        let endless = start.chain(io::repeat(b'x'));
        let opened = AgeReader::open(endless, &passphrase(), 16);
        assert!(matches!(opened, Err(AgeError::Damaged)));
    }

    #[test]
    fn a_work_factor_above_the_limit_is_refused_with_its_memory() {
        let file = encrypt(b"x", 5);
        let opened = AgeReader::open(file.as_slice(), &passphrase(), 4);
        let Err(error @ AgeError::TooMuchWork { factor: 5, factor_max: 4 }) = opened else {
            panic!("it is refused");
        };
        assert!(error.to_string().contains("1 MB of memory"), "{error}");
        let text = String::from_utf8_lossy(&file[..80]).replace(" 5\n", " 25\n");
        let header = [text.as_bytes(), &file[80..]].concat();
        let error = AgeReader::open(header.as_slice(), &passphrase(), 20).err().unwrap();
        assert!(error.to_string().contains("needs 35 GB of memory"), "{error}");
        assert_eq!(memory_needed(15), 32 * 1024 * 1024);
        assert_eq!(memory_needed(200), u64::MAX);
        assert_eq!(work_factor_within(35_000_000), 15);
        assert_eq!(work_factor_within(u64::MAX), AGE_WORK_FACTOR_MAX);
        assert_eq!(work_factor_within(0), 1);
        assert!(AgeWriter::new(Vec::new(), &passphrase(), 0).is_err());
        assert!(AgeWriter::new(Vec::new(), &passphrase(), AGE_WORK_FACTOR_MAX + 1).is_err());
    }

    /// scrypt takes 4 MiB for this factor.
    #[test]
    fn the_memory_of_scrypt_is_free_before_the_stream_starts() {
        const LITTLE: i64 = 1024 * 1024;
        let mut writer = None;
        let used = allocation_counter::measure(|| {
            writer = Some(AgeWriter::new(Vec::new(), &passphrase(), 12).unwrap());
        });
        assert!(used.bytes_max > 4 * 1024 * 1024 && used.bytes_current < LITTLE, "{used:?}");
        let file = writer.unwrap().finish().unwrap();
        let mut reader = None;
        let used = allocation_counter::measure(|| {
            reader = Some(AgeReader::open(file.as_slice(), &passphrase(), 12).unwrap());
        });
        assert!(used.bytes_max > 4 * 1024 * 1024 && used.bytes_current < LITTLE, "{used:?}");
    }

    #[test]
    fn errors_of_the_input_are_no_damage() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::from_raw_os_error(5))
            }
        }
        let file = encrypt(b"x", FACTOR);
        let input = Cursor::new(file[..40].to_vec()).chain(Broken);
        assert!(matches!(AgeReader::open(input, &passphrase(), 16), Err(AgeError::Read(_))));
        let start = file[..file.len() - 1].to_vec();
        let padded = [start, bytes(AGE_HEADER_MAX_BYTES)].concat();
        let input = Cursor::new(padded).chain(Broken);
        let mut reader = AgeReader::open(input, &passphrase(), 16).unwrap();
        let error = reader.read(&mut [0; 10]).unwrap_err();
        assert!(matches!(AgeError::from_io(error), AgeError::Read(_)));
    }
}
