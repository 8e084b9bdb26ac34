//! What browsers load: the embedded pages, and a web client in a folder of the operator's.
//!
//! The pages are built into the binary, so that the way in never depends on a file. They hold no
//! inline script or style, so the strictest content policy fits them. Nothing here knows requests;
//! `http` serves what it finds here.

mod folder;

pub use folder::{Coding, FALLBACK, Folder, FolderError, Opened};

/// One embedded file.
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    /// Its bytes.
    pub bytes: &'static [u8],
    /// Its media type.
    pub content_type: &'static str,
    /// Names exactly these bytes; without the quotes of the header.
    pub tag: u128,
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const VECTOR: &str = "image/svg+xml";

/// What says that nothing is here.
pub const LOST: Asset = asset(include_bytes!("pages/lost.html"), HTML);

/// The page at `/` while no web client is served.
pub const HOME: Asset = asset(include_bytes!("pages/index.html"), HTML);

/// The files that are ours whatever client is served, by path.
pub const FILES: [(&str, Asset); 5] = [
    ("/setup", asset(include_bytes!("pages/setup.html"), HTML)),
    ("/setup/setup.js", asset(include_bytes!("pages/setup.js"), SCRIPT)),
    ("/setup/home.js", asset(include_bytes!("pages/home.js"), SCRIPT)),
    ("/setup/style.css", asset(include_bytes!("pages/style.css"), STYLE)),
    ("/setup/mark.svg", asset(include_bytes!("pages/mark.svg"), VECTOR)),
];

/// The policy of our own pages: our own files and our own origin, nothing inline.
pub const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

const fn asset(bytes: &'static [u8], content_type: &'static str) -> Asset {
    Asset { bytes, content_type, tag: fnv1a(bytes) }
}

/// FNV-1a of 128 bits: tells versions of our own files apart, and protects nothing.
const fn fnv1a(mut bytes: &[u8]) -> u128 {
    let mut hash = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
    while let [first, rest @ ..] = bytes {
        hash = (hash ^ *first as u128).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        bytes = rest;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_hold_nothing_inline() {
        for (path, asset) in FILES.iter().chain([("/", HOME), ("lost", LOST)].iter()) {
            let text = std::str::from_utf8(asset.bytes).unwrap();
            if asset.content_type == HTML {
                for inline in ["<script>", "<style", " style=", " onclick=", "javascript:"] {
                    assert!(!text.contains(inline), "{path}: {inline}");
                }
            }
            assert!(!text.contains("//cdn") && !text.contains("https://"), "{path}");
        }
    }

    #[test]
    fn tags_are_those_of_fnv() {
        // The published test vector of the empty text and of "a".
        assert_eq!(fnv1a(b""), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(fnv1a(b"a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }
}
