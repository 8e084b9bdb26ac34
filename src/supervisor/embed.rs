//! Build-time part of `supervisor`: finds or builds nats-server for the target, checks it, compresses
//! it and writes the constants that `bundled.rs` includes.
//!
//! The server comes from the file named by `CHATTO_NATS_SERVER_BIN`, else from the Go module pinned in
//! `cross/nats-server`. `CHATTO_NATS_SERVER_BIN=none` builds without one, for lint and documentation.
//! The compressed server is kept in `target/TRIPLE/nats-server`, so that further builds reuse it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};
use structured_zstd::encoding::{CompressionLevel, compress_slice_to_vec};

#[path = "elf.rs"]
mod elf;

const VARIABLE: &str = "CHATTO_NATS_SERVER_BIN";
const MODULE: &str = "github.com/nats-io/nats-server/v2 v";
/// Part of the cache's key: raise it when the compressed form or the generated constants change.
const FORMAT: &str = "5";
/// Each piece of this size is a frame of its own: a decoder keeps that much unpacked data in memory.
const PIECE_BYTES: usize = 2 << 20;

/// Writes `nats_server.zst` and `nats_server.rs` into `OUT_DIR`, or tells cargo what is missing.
pub(crate) fn embed() {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    for file in ["go.mod", "go.sum", "build.sh"] {
        println!("cargo::rerun-if-changed=cross/nats-server/{file}");
    }
    if let Err(why) = try_embed() {
        for line in why.lines() {
            // cargo begins every line with "error:" itself.
            println!("cargo::error={}", line.strip_prefix("error: ").unwrap_or(line));
        }
    }
}

/// What is being built, from cargo's environment.
struct Build {
    root: PathBuf,
    out: PathBuf,
    cache: PathBuf,
    target: String,
    machine: elf::Machine,
    version: String,
    level: i32,
}

fn try_embed() -> Result<(), String> {
    let build = Build::from_env()?;
    let key = match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        Some(value) if value == "none" => return build.write_none(),
        Some(file) => {
            let file = PathBuf::from(file);
            println!("cargo::rerun-if-changed={}", file.display());
            let key = build.key_of_file(&file)?;
            if !build.is_cached(&key) {
                build.pack(&file, &key)?;
            }
            key
        }
        None => {
            let key = build.key_of_module()?;
            if !build.is_cached(&key) {
                build.pack(&build.build_server(&key)?, &key)?;
            }
            key
        }
    };
    for name in ["nats_server.zst", "nats_server.rs"] {
        copy_if_different(&build.cached(&key, name), &build.out.join(name))?;
    }
    Ok(())
}

impl Build {
    fn from_env() -> Result<Self, String> {
        let root = PathBuf::from(env("CARGO_MANIFEST_DIR")?);
        let out = PathBuf::from(env("OUT_DIR")?);
        let target = env("TARGET")?;
        let machine = match env("CARGO_CFG_TARGET_ARCH")?.as_str() {
            "x86_64" => elf::Machine::X86_64,
            "aarch64" => elf::Machine::Aarch64,
            other => return Err(format!("error: nats-server is not built for {other}")),
        };
        // The target's folder, above those of the profiles, which share it.
        let top = out.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists()).unwrap_or(&out);
        let cache = top.join("nats-server");
        let version = pinned_version(&root)?;
        // The strongest level takes 6 s; only binaries that are shipped are worth it.
        let level = if env("OPT_LEVEL")? == "3" { 19 } else { 9 };
        Ok(Self { root, out, cache, target, machine, version, level })
    }

    /// The cache key of the server built from the pinned module; it changes only with the module's files.
    fn key_of_module(&self) -> Result<String, String> {
        let mut hash = Sha256::new();
        for file in ["go.mod", "go.sum", "build.sh"] {
            hash.update(read(&self.root.join("cross/nats-server").join(file))?);
        }
        Ok(self.key(&hash.finalize()))
    }

    /// The cache key of a given file: its path, length and time.
    fn key_of_file(&self, file: &Path) -> Result<String, String> {
        let missing = |error| format!("error: {VARIABLE} names {}: {error}", file.display());
        let about = fs::metadata(file).map_err(missing)?;
        let facts = format!("{file:?} {} {:?}", about.len(), about.modified().map_err(missing)?);
        Ok(self.key(&Sha256::digest(facts)))
    }

    fn key(&self, hash: &[u8]) -> String {
        format!(
            "{}-{FORMAT}-{}-{}",
            self.machine.go_name(),
            self.level,
            hex(hash.get(..8).unwrap_or(hash))
        )
    }

    fn cached(&self, key: &str, name: &str) -> PathBuf {
        self.cache.join(key).join(name)
    }

    fn is_cached(&self, key: &str) -> bool {
        // Written last, by rename.
        self.cached(key, "nats_server.rs").exists()
    }

    fn build_server(&self, key: &str) -> Result<PathBuf, String> {
        let server = self.cached(key, &format!("nats-server.{}", std::process::id()));
        create_dir(&self.cache.join(key))?;
        let script = self.root.join("cross/nats-server/build.sh");
        let arch = self.target.split('-').next().unwrap_or_default();
        let help = |why: &str| {
            format!(
                "error: nats-server for {arch} is missing: {why}.\n       Install Go {} or newer, or set \
                 {VARIABLE} to a static nats-server v{} for linux/{}.",
                go_needed(&self.root),
                self.version,
                self.machine.go_name()
            )
        };
        match Command::new("go").arg("version").output() {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(help("`go` was not found"));
            }
            Err(error) => return Err(help(&format!("`go` does not run ({error})"))),
        }
        let built = Command::new(&script).arg(&self.target).arg(&server).output();
        let built = built.map_err(|error| format!("error: {}: {error}", script.display()))?;
        if !built.status.success() {
            let said = String::from_utf8_lossy(&built.stderr);
            let last = said.lines().rfind(|line| !line.is_empty()).unwrap_or("no message").trim();
            return Err(help(&format!("`go build` failed ({last})")));
        }
        Ok(server)
    }

    /// Checks and compresses `server` and stores the result under `key`.
    fn pack(&self, server: &Path, key: &str) -> Result<(), String> {
        let plain = read(server)?;
        elf::check_static(&plain, self.machine)
            .map_err(|why| format!("error: {} {why}", server.display()))?;
        self.check_version(server)?;
        create_dir(&self.cache.join(key))?;
        let packed = self.compress(&plain)?;
        let constants = constants(&self.version, &plain);
        write_renamed(&self.cached(key, "nats_server.zst"), &packed)?;
        write_renamed(&self.cached(key, "nats_server.rs"), constants.as_bytes())?;
        if server.starts_with(&self.cache) {
            fs::remove_file(server).map_err(|error| format!("{}: {error}", server.display()))?;
        }
        Ok(())
    }

    /// A frame (RFC 8878) for each piece, preceded by its length in 4 bytes, little-endian.
    fn compress(&self, plain: &[u8]) -> Result<Vec<u8>, String> {
        let mut packed = Vec::new();
        for piece in plain.chunks(PIECE_BYTES) {
            let frame = compress_slice_to_vec(piece, CompressionLevel::Level(self.level));
            let length = u32::try_from(frame.len()).map_err(|error| format!("error: {error}"))?;
            packed.extend(length.to_le_bytes());
            packed.extend(frame);
        }
        Ok(packed)
    }

    /// Asks the server for its version where this machine can run it (natively or emulated).
    fn check_version(&self, server: &Path) -> Result<(), String> {
        let Ok(answer) = Command::new(server).arg("--version").output() else { return Ok(()) };
        let said = String::from_utf8_lossy(&answer.stdout);
        let needed = format!("v{}", self.version);
        if said.split_whitespace().any(|word| word == needed) {
            return Ok(());
        }
        Err(format!(
            "error: {} is `{}`; v{} is needed",
            server.display(),
            said.lines().next().unwrap_or("silent"),
            self.version
        ))
    }

    fn write_none(&self) -> Result<(), String> {
        write_if_different(&self.out.join("nats_server.zst"), b"")?;
        write_if_different(
            &self.out.join("nats_server.rs"),
            constants(&self.version, b"").as_bytes(),
        )
    }
}

/// The source text of what `bundled.rs` needs to know about the compressed file beside it.
fn constants(version: &str, plain: &[u8]) -> String {
    format!(
        "/// The bundled server's version.\npub(super) const VERSION: &str = {version:?};\n\
         /// Size of the unpacked server; 0 when none is bundled.\npub(super) const SIZE_BYTES: usize = {};\n\
         /// SHA-256 of the unpacked server.\npub(super) static SHA256: [u8; 32] = {:?};\n\
         /// The compressed server.\n\
         pub(super) static PACKED: &[u8] = include_bytes!(concat!(env!(\"OUT_DIR\"), \"/nats_server.zst\"));\n",
        plain.len(),
        <[u8; 32]>::from(Sha256::digest(plain)),
    )
}

fn pinned_version(root: &Path) -> Result<String, String> {
    let path = root.join("cross/nats-server/go.mod");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    text.lines()
        .find_map(|line| line.trim().trim_start_matches("require ").strip_prefix(MODULE))
        .map(|version| version.trim().to_owned())
        .ok_or_else(|| format!("error: {} does not require nats-server", path.display()))
}

/// The oldest Go that builds the pinned server, as `go.mod` says.
fn go_needed(root: &Path) -> String {
    let text = fs::read_to_string(root.join("cross/nats-server/go.mod")).unwrap_or_default();
    let version = text.lines().find_map(|line| line.strip_prefix("go ")).unwrap_or("1.26");
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

fn env(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|error| format!("error: {name}: {error}"))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    #[expect(clippy::disallowed_methods, reason = "the build reads its own files")]
    fs::read(path).map_err(|error| format!("error: {}: {error}", path.display()))
}

fn create_dir(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|error| format!("error: {}: {error}", path.display()))
}

/// Two builds may share the target directory: each writes its own file and renames it.
fn write_renamed(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|error| format!("error: {}: {error}", path.display()))
}

fn copy_if_different(from: &Path, to: &Path) -> Result<(), String> {
    write_if_different(to, &read(from)?)
}

/// Keeps the file's time if nothing changed, so that nothing is recompiled.
fn write_if_different(path: &Path, bytes: &[u8]) -> Result<(), String> {
    if path.exists() && read(path)? == bytes {
        return Ok(());
    }
    write_renamed(path, bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
