//! A web client in a folder of the operator: from the path of a request to an open file, its type and coding.
//!
//! Nothing outside the folder is ever opened, whatever the path is and wherever links lead. All of this blocks.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// The page for every path that the client handles itself.
pub const FALLBACK: &str = "200.html";

/// The folder with the static build of a single-page client.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

/// The folder contains no web client.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("cannot read the directory {} ({reason})", path.display())]
    Unreadable { path: PathBuf, reason: io::Error },
    #[error("{} contains no {FALLBACK}, so it is not the build of a web client", path.display())]
    NoFallback { path: PathBuf },
}

/// A content coding of a compressed file beside the plain one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// RFC 7932, `.br`.
    Brotli,
    /// RFC 8878, `.zst`.
    Zstd,
    /// RFC 1952, `.gz`.
    Gzip,
}

impl Coding {
    /// All codings, the best compression first.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// Its name in `Content-Encoding`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }
}

/// A file to serve.
#[derive(Debug)]
pub struct OpenedFile {
    /// The file; compressed when there is a `coding`.
    pub file: File,
    /// Its length in bytes.
    pub len: u64,
    /// The media type of the plain file.
    pub content_type: &'static str,
    pub coding: Option<Coding>,
    /// The entity tag of this version of the file, without the quotes of the header.
    pub tag: String,
}

impl Folder {
    /// The folder at `root`, which is not read yet.
    #[must_use]
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Whether there is a web client to serve.
    ///
    /// # Errors
    /// [`FolderError`] when there is none.
    pub fn check(&self) -> Result<(), FolderError> {
        let path = self.root.clone();
        if let Err(reason) = std::fs::read_dir(&path) {
            return Err(FolderError::Unreadable { path, reason });
        }
        match self.find(FALLBACK, &[]) {
            Ok(Some(_)) => Ok(()),
            Ok(None) | Err(_) => Err(FolderError::NoFallback { path }),
        }
    }

    /// The file at the path of a request, in the first of `codings` that is beside it, otherwise plain. `None` when
    /// there is no such regular file in the folder.
    ///
    /// # Errors
    /// The system's error, when the file exists and cannot be read.
    pub fn find(&self, path: &str, codings: &[Coding]) -> io::Result<Option<OpenedFile>> {
        let Some(name) = file_name(path) else { return Ok(None) };
        // Every time, because a new build may have replaced the folder.
        let root = self.root.canonicalize()?;
        let content_type = content_type(&name);
        let plain = root.join(&name);
        let Some((mut file, mut about)) = open_inside(&root, &plain)? else { return Ok(None) };
        let mut coding = None;
        for &candidate in codings {
            let mut compressed = plain.clone().into_os_string();
            compressed.push(candidate.suffix());
            // A compressed file older than the plain one is left over from an earlier build.
            if let Ok(Some(found)) = open_inside(&root, Path::new(&compressed))
                && (found.1.mtime(), found.1.mtime_nsec()) >= (about.mtime(), 0)
            {
                (file, about) = found;
                coding = Some(candidate);
                break;
            }
        }
        let suffix = coding.map_or("", Coding::name);
        let (seconds, part) = (about.mtime(), about.mtime_nsec());
        let tag = format!("{:x}-{:x}-{seconds:x}.{part:x}{suffix}", about.ino(), about.len());
        Ok(Some(OpenedFile { len: about.len(), file, content_type, coding, tag }))
    }
}

/// Opens a regular file whose canonical path is below `root`, which is canonical itself.
fn open_inside(root: &Path, path: &Path) -> io::Result<Option<(File, std::fs::Metadata)>> {
    let real = match path.canonicalize() {
        Ok(real) => real,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    if !real.starts_with(root) || !real.metadata()?.is_file() {
        return Ok(None);
    }
    let file = File::open(&real)?;
    let about = file.metadata()?;
    Ok(Some((file, about)))
}

/// Whether the file does not exist, rather than being unreadable.
fn is_absent(error: &io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| {
        [Errno::NOENT, Errno::NOTDIR, Errno::NAMETOOLONG, Errno::LOOP].contains(&errno)
    })
}

/// The relative, decoded file name for the path of a request. `None` for what no file of a client is called: names
/// that start with a dot, contain control characters or an encoded slash.
fn file_name(path: &str) -> Option<String> {
    let mut names = Vec::new();
    for segment in path.trim_start_matches('/').split('/') {
        let name = decode(segment)?;
        let is_hidden = name.starts_with('.') && name != ".well-known";
        let has_separator_or_control =
            name.contains(['/', '\\']) || name.chars().any(char::is_control);
        if name.is_empty() || is_hidden || has_separator_or_control {
            return None;
        }
        names.push(name);
    }
    Some(names.join("/"))
}

/// Percent-decoding (RFC 3986, 2.1); `None` when the encoding or the resulting UTF-8 is invalid.
fn decode(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// The media type of a file, by its extension.
pub(super) fn content_type(name: &str) -> &'static str {
    let end = name.rsplit_once('.').map_or("", |(_, end)| end).to_ascii_lowercase();
    match end.as_str() {
        "html" => super::HTML,
        "js" | "mjs" => super::SCRIPT,
        "css" => super::STYLE,
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => super::VECTOR,
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "woff" => "font/woff",
        "ttf" => "font/ttf",
        "otf" => "font/otf",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        "xml" => "application/xml",
        "pdf" => "application/pdf",
        "mp3" => "audio/mpeg",
        "ogg" | "oga" => "audio/ogg",
        "wav" => "audio/wav",
        "m4a" => "audio/mp4",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_names_inside_the_folder_or_nothing() {
        for (path, name) in [
            ("/a.js", "a.js"),
            ("/_app/immutable/x.css", "_app/immutable/x.css"),
            ("/a%20b.txt", "a b.txt"),
            ("/.well-known/security.txt", ".well-known/security.txt"),
            ("/gr%C3%BC%C3%9Fe.txt", "grüße.txt"),
        ] {
            assert_eq!(file_name(path).as_deref(), Some(name), "{path}");
        }
        for path in [
            "/",
            "",
            "/a//b",
            "/a/",
            "/..",
            "/a/../b",
            "/%2e%2e/b",
            "/a%2Fb",
            "/a%5Cb",
            "/a\\b",
            "/a%00b",
            "/a%0ab",
            "/.env",
            "/a/.git/x",
            "/%zz",
            "/%4",
            "/%ff",
        ] {
            assert_eq!(file_name(path), None, "{path}");
        }
    }
}
