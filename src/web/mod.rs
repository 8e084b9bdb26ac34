//! What browsers load: the embedded web client with the pages below `/setup`, and a web client in a folder of the
//! operator.
//!
//! The client is embedded in the binary, so that it needs no files. It contains no inline script or style, so that
//! the strictest content policy is possible. This module does not know requests; `http` serves what it provides.

mod folder;

pub use folder::{Coding, FALLBACK, Folder, FolderError, OpenedFile};

/// One embedded file.
#[derive(Debug, PartialEq, Eq)]
pub struct Asset {
    /// The path it is served at.
    pub path: &'static str,
    plain: &'static [u8],
    gzip: Option<&'static [u8]>,
    brotli: Option<&'static [u8]>,
    tag: u128,
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const VECTOR: &str = "image/svg+xml";

/// All embedded files by path; none when the client was left out of the build.
static ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/web_client.rs"));

/// The client's page, for every path that the client handles itself.
pub const PAGE: &str = "/200.html";
/// The page for setup and join links; ours whatever client is served.
pub const SETUP: &str = "/setup/index.html";
/// The page for a path that does not exist.
pub const NOT_FOUND_PAGE: &str = "/setup/lost.html";

/// The content policy of our own pages: only our own files and our own origin, nothing inline. Images, sounds and
/// films may also come from `files_origin`.
#[must_use]
pub fn content_policy(files_origin: Option<&str>) -> String {
    let files = files_origin.map(|origin| format!(" {origin}")).unwrap_or_default();
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'{files}; \
         media-src 'self'{files}; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
}

/// The embedded file at the path of a request.
#[must_use]
pub fn asset(path: &str) -> Option<&'static Asset> {
    let at = ASSETS.binary_search_by_key(&path, |asset| asset.path).ok()?;
    ASSETS.get(at)
}

/// Every embedded file.
pub fn assets() -> impl Iterator<Item = &'static Asset> {
    ASSETS.iter()
}

impl Asset {
    /// The media type.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        folder::content_type(self.path)
    }

    /// Its bytes without a content coding.
    #[must_use]
    pub fn plain(&self) -> &'static [u8] {
        self.plain
    }

    /// Its bytes in the first of `codings` that it has, otherwise without a coding.
    #[must_use]
    pub fn encoded(&self, codings: &[Coding]) -> (Option<Coding>, &'static [u8]) {
        let found = codings.iter().find_map(|&coding| {
            let bytes = match coding {
                Coding::Brotli => self.brotli,
                Coding::Gzip => self.gzip,
                Coding::Zstd => None,
            };
            bytes.map(|bytes| (Some(coding), bytes))
        });
        found.unwrap_or((None, self.plain))
    }

    /// The entity tag of these bytes in this coding, without the quotes of the header.
    #[must_use]
    pub fn tag(&self, coding: Option<Coding>) -> String {
        format!("{:032x}{}", self.tag, coding.map_or("", Coding::name))
    }

    /// Whether its path changes with its content.
    #[must_use]
    pub fn is_hashed(&self) -> bool {
        is_hashed(self.path)
    }
}

/// Whether the path contains a hash, so that it changes with the content of the file.
#[must_use]
pub fn is_hashed(path: &str) -> bool {
    path.starts_with("/_app/immutable/") || path.starts_with("/setup/immutable/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    #[test]
    fn the_client_has_the_limits_of_the_server() {
        macro_rules! of_server {
            ($($name:ident)*) => { [$((stringify!($name), limits::$name)),*] };
        }
        let of_server = of_server!(
            BODY_MAX_BYTES ATTACHMENTS_MAX ROOM_NAME_MAX_CHARS DESCRIPTION_MAX_CHARS DISPLAY_NAME_MAX_CHARS
            LOGIN_MIN_CHARS LOGIN_MAX_CHARS PASSWORD_MIN_CHARS PASSWORD_MAX_CHARS EMAIL_MAX_BYTES
            IDENTIFIER_MAX_BYTES
        );
        let lines = include_str!("client/src/lib/limits.ts").lines();
        let of_client: Vec<(&str, usize)> = lines
            .filter_map(|line| line.strip_prefix("export const "))
            .map(|line| line.trim_end_matches(';').split_once(" = ").unwrap())
            .map(|(name, number)| (name, number.replace('_', "").parse().unwrap()))
            .collect();
        assert_eq!(of_client, of_server);
    }

    #[test]
    fn pages_contain_nothing_inline_and_nothing_from_other_origins() {
        for asset in assets() {
            let text = String::from_utf8_lossy(asset.plain());
            if asset.content_type() == HTML {
                for inline in ["<script>", "<style", " style=", " onclick=", "javascript:", "//"] {
                    assert!(!text.contains(inline), "{}: {inline}", asset.path);
                }
            }
            assert!(!text.contains("//cdn") && !text.contains("@import"), "{}", asset.path);
        }
    }

    #[test]
    fn the_client_is_embedded_compressed_and_found_by_path() {
        for path in [PAGE, SETUP, NOT_FOUND_PAGE] {
            assert_eq!(asset(path).map(Asset::content_type), Some(HTML), "{path}");
        }
        let scripts: Vec<_> = assets().filter(|asset| asset.content_type() == SCRIPT).collect();
        assert!(scripts.len() >= 2 && scripts.iter().all(|script| script.is_hashed()));
        let entry = scripts.iter().max_by_key(|script| script.plain().len()).unwrap();
        let sizes = [Coding::Brotli, Coding::Gzip]
            .map(|coding| (Some(coding), entry.encoded(&[coding])))
            .map(|(asked, (given, bytes))| {
                assert_eq!(asked, given);
                bytes.len()
            });
        assert!(sizes[0] < sizes[1] && sizes[1] < entry.plain().len() / 2, "{sizes:?}");
        assert_eq!(asset("/none"), None);
    }

    /// What a browser loads before a user can do anything; see docs/development.md.
    #[test]
    fn the_first_load_is_small() {
        let page = asset(PAGE).unwrap();
        let text = String::from_utf8_lossy(page.plain()).into_owned();
        let size = |asset: &Asset| asset.encoded(&[Coding::Gzip]).1.len();
        let named = assets().filter(|asset| asset.path != "/" && text.contains(asset.path));
        let total: usize = size(page) + named.map(size).sum::<usize>();
        assert!((20_000..=75_000).contains(&total), "{total} bytes as gzip");
    }
}
