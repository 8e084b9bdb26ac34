//! Build-time part of `web`: the built client in `src/web/dist` → a table of embedded files.
//!
//! `make client` builds it with npm, compressed files beside the plain ones. `CHATTO_WEB_CLIENT=none` builds the
//! server without it, for lints and documentation.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

const VARIABLE: &str = "CHATTO_WEB_CLIENT";
const DIST: &str = "src/web/dist";

/// Writes `web_client.rs` into `OUT_DIR`, or reports to cargo what is missing.
pub(crate) fn embed() {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    println!("cargo::rerun-if-changed={DIST}");
    if let Err(why) = try_embed() {
        println!("cargo::error={why}");
    }
}

fn try_embed() -> Result<(), String> {
    let root = std::env::var("CARGO_MANIFEST_DIR").map_err(|_| "no CARGO_MANIFEST_DIR")?;
    let out = std::env::var("OUT_DIR").map_err(|_| "no OUT_DIR")?;
    let dist = Path::new(&root).join(DIST);
    let mut table = String::from("&[\n");
    match std::env::var(VARIABLE).as_deref() {
        Ok("none") => {}
        Ok(other) if !other.is_empty() => {
            return Err(format!("{VARIABLE} is `{other}`; the only value it takes is `none`"));
        }
        _ => {
            for path in files(&dist)? {
                entry(&mut table, &dist, &path)?;
            }
        }
    }
    table += "]";
    std::fs::write(Path::new(&out).join("web_client.rs"), table).map_err(|error| error.to_string())
}

/// Relative paths of the plain files, sorted.
fn files(dist: &Path) -> Result<Vec<PathBuf>, String> {
    let missing = || {
        format!(
            "the web client is not built ({DIST} is missing); run `make client`, which needs npm, or set {VARIABLE}=none to build without it"
        )
    };
    if !dist.join("200.html").is_file() || !dist.join("setup/index.html").is_file() {
        return Err(missing());
    }
    let mut found = Vec::new();
    let mut folders = vec![dist.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(|error| error.to_string())?;
        for entry in entries {
            let path = entry.map_err(|error| error.to_string())?.path();
            let is_compressed = path.extension().is_some_and(|end| end == "gz" || end == "br");
            if path.is_dir() {
                folders.push(path);
            } else if !is_compressed {
                found.push(path.strip_prefix(dist).map_err(|error| error.to_string())?.to_owned());
            }
        }
    }
    // Sorted as text: the lookup is a binary search.
    found.sort_by_key(|path| path.to_string_lossy().into_owned());
    Ok(found)
}

fn entry(table: &mut String, dist: &Path, path: &Path) -> Result<(), String> {
    let plain = dist.join(path);
    #[expect(clippy::disallowed_methods, reason = "the build reads its own files")]
    let bytes = std::fs::read(&plain).map_err(|error| format!("{}: {error}", plain.display()))?;
    let digest = Sha256::digest(&bytes);
    let tag: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let compressed = |end: &str| {
        let file = PathBuf::from(format!("{}.{end}", plain.display()));
        if file.is_file() { format!("Some(include_bytes!({file:?}))") } else { "None".to_owned() }
    };
    writeln!(
        table,
        "Asset {{ path: {:?}, plain: include_bytes!({plain:?}), gzip: {}, brotli: {}, tag: 0x{tag} }},",
        format!("/{}", path.display()),
        compressed("gz"),
        compressed("br"),
    )
    .map_err(|error| error.to_string())
}
