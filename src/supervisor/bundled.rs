//! The nats-server inside this binary: unpacked as a stream and compared with the hash that the build
//! recorded. It does not know how the server is run.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};
use structured_zstd::decoding::StreamingDecoder;

use crate::limits::COPY_CHUNK_BYTES;

mod built {
    include!(concat!(env!("OUT_DIR"), "/nats_server.rs"));
}

/// The server that was built in.
#[derive(Debug, Clone, Copy)]
pub struct Bundled {
    packed: &'static [u8],
    size_bytes: usize,
    sha256: &'static [u8; 32],
    version: &'static str,
}

/// The bundled server could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error(
        "this chatto was built without its nats-server. Set nats.embedded.binary to one, or use a complete build"
    )]
    NotBundled,
    #[error("the nats-server inside this chatto is damaged. Install chatto again")]
    Damaged,
    #[error(
        "cannot unpack the bundled nats-server. Check the free memory and the free space of the data directory"
    )]
    Write {
        #[source]
        source: io::Error,
    },
}

impl Bundled {
    /// The server inside this binary, unless it was built without one.
    #[must_use]
    pub fn get() -> Option<Self> {
        let (packed, size_bytes, sha256) = (built::PACKED, built::SIZE_BYTES, &built::SHA256);
        (size_bytes > 0).then_some(Self { packed, size_bytes, sha256, version: built::VERSION })
    }

    /// Its version, for example `2.15.1`.
    #[must_use]
    pub fn version(&self) -> &'static str {
        self.version
    }

    /// SHA-256 of the unpacked server in lower-case hexadecimal.
    #[must_use]
    pub fn sha256_hex(&self) -> String {
        hex(self.sha256)
    }

    /// SHA-256 of the unpacked server.
    #[must_use]
    pub fn sha256(&self) -> &'static [u8; 32] {
        self.sha256
    }

    /// Size of the unpacked server.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Unpacks the server into `to` in chunks while hashing. What was written must not be used
    /// unless this succeeds.
    ///
    /// # Errors
    /// [`UnpackError::Damaged`] when the result is not what was built in; [`UnpackError::Write`].
    pub fn unpack(&self, mut to: impl Write) -> Result<(), UnpackError> {
        let mut hash = Sha256::new();
        let mut chunk = vec![0; COPY_CHUNK_BYTES];
        let mut packed = self.packed;
        // Each frame follows its length, as embed.rs wrote them.
        while let Some((length, rest)) = packed.split_first_chunk() {
            let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
            let (frame, rest) = rest.split_at_checked(length).ok_or(UnpackError::Damaged)?;
            packed = rest;
            let mut plain = StreamingDecoder::new(frame);
            loop {
                let read = plain.read(&mut chunk).map_err(|_| UnpackError::Damaged)?;
                let bytes = chunk.get(..read).unwrap_or_default();
                if bytes.is_empty() {
                    break;
                }
                hash.update(bytes);
                to.write_all(bytes).map_err(|source| UnpackError::Write { source })?;
            }
        }
        if hash.finalize().as_slice() != self.sha256.as_slice() {
            return Err(UnpackError::Damaged);
        }
        Ok(())
    }
}

/// Unpacks the bundled server as an executable file, for tests and for use beside chatto.
pub fn bundled_server(to: &Path) -> Result<(), UnpackError> {
    let bundled = Bundled::get().ok_or(UnpackError::NotBundled)?;
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o700).open(to);
    bundled.unpack(file.map_err(|source| UnpackError::Write { source })?)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_server_is_what_the_build_recorded() {
        let bundled = Bundled::get().expect("tests need a build with nats-server");
        let mut plain = Vec::new();
        bundled.unpack(&mut plain).unwrap();
        assert_eq!(plain.len(), bundled.size_bytes());
        assert!(plain.starts_with(b"\x7fELF"));
        assert_eq!(bundled.sha256_hex().len(), 64);
    }

    #[test]
    fn a_damaged_copy_is_refused() {
        let mut bundled = Bundled::get().expect("tests need a build with nats-server");
        bundled.sha256 = &[0; 32];
        assert!(matches!(bundled.unpack(io::sink()), Err(UnpackError::Damaged)));
        bundled.packed = &bundled.packed[..bundled.packed.len() / 2];
        assert!(matches!(bundled.unpack(io::sink()), Err(UnpackError::Damaged)));
    }

    #[test]
    fn a_full_disk_while_unpacking_is_reported_as_such() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let bundled = Bundled::get().expect("tests need a build with nats-server");
        assert!(matches!(bundled.unpack(Full), Err(UnpackError::Write { .. })));
    }
}
