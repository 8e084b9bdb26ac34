//! The embedded server's settings: its configuration file, memory limit and disk limits.

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::limits::{
    EMBEDDED_CONNECTIONS_MAX, EMBEDDED_MEMORY_STORE_MAX_BYTES, NATS_PAYLOAD_MAX_BYTES,
};
use crate::runtime::limited_read;

const MIB: u64 = 1024 * 1024;
/// A lower `max_file_store` would be read as "no limit", or refuse every record.
const FILE_STORE_MIN_BYTES: u64 = MIB;

/// The embedded server's settings (`nats.embedded.*`).
#[derive(Debug, Clone)]
pub struct Config {
    /// The directory of all local state.
    pub data_dir: PathBuf,
    /// Another nats-server than the bundled one.
    pub binary: Option<PathBuf>,
    pub bind_address: IpAddr,
    /// Its port; 0: a random one, kept for the life of this process.
    pub port: u16,
    /// Its monitoring port, which has no authentication and serves every account of this machine; 0: none.
    pub http_port: u16,
    /// The token of its clients; absent: random.
    pub auth_token: Option<String>,
    pub sync: SyncInterval,
    /// A ceiling of the store in bytes; absent: what the floor leaves.
    pub max_file_store: Option<u64>,
    /// Bytes of the disk that are kept free.
    pub min_free_disk: u64,
    /// `GOMEMLIMIT` in bytes; absent: by the machine's memory.
    pub memory_limit: Option<u64>,
}

/// When nats-server syncs a stored record to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncInterval {
    /// Before every acknowledgement: acknowledged means on disk.
    Always,
    /// At this interval: a power cut may lose what was acknowledged since the last sync.
    Every(Duration),
}

/// What the child's configuration file is made from.
pub(super) struct ChildConfig<'a> {
    pub(super) config: &'a Config,
    /// The folder in which `jetstream` is created.
    pub(super) store_parent: &'a Path,
    pub(super) run_dir: &'a Path,
    pub(super) port: u16,
    pub(super) token: &'a str,
    pub(super) max_file_store: u64,
}

/// The text of the child's configuration file. It holds the token: write it 0600.
pub(super) fn render(run: &ChildConfig<'_>) -> String {
    let config = run.config;
    let host = match config.bind_address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    // 0 would mean nats-server's own default port; -1 means random.
    let port = if run.port == 0 { -1 } else { i32::from(run.port) };
    let monitoring = match config.http_port {
        0 => String::new(),
        port => format!("http: \"127.0.0.1:{port}\"\n"),
    };
    let sync = match config.sync {
        SyncInterval::Always => "always".to_owned(),
        SyncInterval::Every(interval) => quote(&format!("{}ms", interval.as_millis().max(1))),
    };
    let mut text = String::new();
    // Writing to a String cannot fail.
    write!(
        text,
        "# Written by chatto at every start of its nats-server; your changes will be overwritten.\n\
         server_name: chatto-embedded\n\
         listen: {}\n\
         {monitoring}\
         ports_file_dir: {}\n\
         authorization {{ token: {} }}\n\
         max_payload: {NATS_PAYLOAD_MAX_BYTES}\n\
         max_connections: {EMBEDDED_CONNECTIONS_MAX}\n\
         logtime: false\n\
         jetstream {{\n  store_dir: {}\n  max_memory_store: {EMBEDDED_MEMORY_STORE_MAX_BYTES}\n  \
         max_file_store: {}\n  sync_interval: {sync}\n}}\n",
        quote(&format!("{host}:{port}")),
        quote(&run.run_dir.to_string_lossy()),
        quote(run.token),
        quote(&run.store_parent.to_string_lossy()),
        run.max_file_store.max(FILE_STORE_MIN_BYTES),
    )
    .ok();
    text
}

/// A quoted string of nats-server's configuration language; it is never read as a variable.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// `GOMEMLIMIT` for a machine (`packaging` 7.1: a small live set works under all of them, measured).
pub(super) fn memory_limit_bytes(configured: Option<u64>, memory_bytes: u64) -> u64 {
    configured.unwrap_or(match memory_bytes.div_ceil(MIB) {
        0..=640 => 40 * MIB,
        641..=3072 => 80 * MIB,
        _ => 256 * MIB,
    })
}

/// The smaller of the machine's memory and every limit of our control group.
#[must_use]
pub fn memory_bytes() -> u64 {
    let about = rustix::system::sysinfo();
    let unit = u64::from(about.mem_unit.max(1));
    let machine = about.totalram.saturating_mul(unit);
    cgroup_limit_bytes(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"))
        .map_or(machine, |limit| limit.min(machine))
}

/// The lowest `memory.max` from our group up to the root (cgroup v2), or v1's single limit.
fn cgroup_limit_bytes(groups: &Path, root: &Path) -> Option<u64> {
    const FILE_MAX_BYTES: u64 = 64 * 1024;
    let number = |path: PathBuf| -> Option<u64> {
        let text = limited_read(&path, FILE_MAX_BYTES).ok()?;
        std::str::from_utf8(&text).ok()?.trim().parse().ok()
    };
    let text = limited_read(groups, FILE_MAX_BYTES).ok()?;
    let mut lowest: Option<u64> = None;
    for line in std::str::from_utf8(&text).ok()?.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (kind, own) = (fields.next()?, fields.next()?.trim_start_matches('/'));
        let (root, file) = if kind.is_empty() {
            (root.to_owned(), "memory.max")
        } else if kind.split(',').any(|kind| kind == "memory") {
            (root.join("memory"), "memory.limit_in_bytes")
        } else {
            continue;
        };
        for group in root.join(own).ancestors().take_while(|group| group.starts_with(&root)) {
            let limit = number(group.join(file));
            lowest = lowest.into_iter().chain(limit).min();
        }
    }
    lowest
}

/// Bytes that the files below `path` occupy; 0 when it does not exist.
pub(super) fn used_bytes(path: &Path) -> io::Result<u64> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        // Deleted meanwhile, or not there yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut sum = 0_u64;
    for entry in entries {
        let entry = entry?;
        let bytes = match entry.metadata() {
            Ok(about) if about.is_dir() => used_bytes(&entry.path())?,
            Ok(about) => about.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        sum = sum.saturating_add(bytes);
    }
    Ok(sum)
}

/// `max_file_store`: what is stored already plus the free space above the floor, at most the configured limit.
pub(super) fn file_store_limit(config: &Config, used_bytes: u64, free_bytes: u64) -> u64 {
    let room = used_bytes.saturating_add(free_bytes.saturating_sub(config.min_free_disk));
    config.max_file_store.unwrap_or(u64::MAX).min(room).max(FILE_STORE_MIN_BYTES)
}

/// Default settings for unit tests.
#[cfg(test)]
pub(super) fn test_config() -> Config {
    Config {
        data_dir: "/d".into(),
        binary: None,
        bind_address: std::net::Ipv4Addr::LOCALHOST.into(),
        port: 0,
        http_port: 0,
        auth_token: None,
        sync: SyncInterval::Always,
        max_file_store: None,
        min_free_disk: 0,
        memory_limit: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config { min_free_disk: 100, ..test_config() }
    }

    #[test]
    fn strings_are_quoted() {
        assert_eq!(quote("a\"b\\c\nd$e"), r#""a\"b\\c\nd$e""#);
    }

    #[test]
    fn the_file_says_what_was_set() {
        let mut config = config();
        let run = |config: &Config| {
            let (store_parent, run_dir) = (Path::new("/d"), Path::new("/d/run"));
            render(&ChildConfig {
                config,
                store_parent,
                run_dir,
                port: 0,
                token: "t",
                max_file_store: 5 << 20,
            })
        };
        let text = run(&config);
        for line in [
            "listen: \"127.0.0.1:-1\"",
            "token: \"t\"",
            "sync_interval: always",
            "max_file_store: 5242880",
            "max_payload: 1048576",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
        assert!(!text.contains("http"), "it answers every account of this machine:\n{text}");
        config.sync = SyncInterval::Every(Duration::from_secs(1));
        config.bind_address = "::1".parse().unwrap();
        config.http_port = 8222;
        let text = run(&config);
        for line in
            ["listen: \"[::1]:-1\"", "http: \"127.0.0.1:8222\"", "sync_interval: \"1000ms\""]
        {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
    }

    #[test]
    fn memory_limits_follow_the_table() {
        for (memory_mib, limit_mib) in
            [(430, 40), (640, 40), (641, 80), (3072, 80), (3073, 256), (8000, 256)]
        {
            assert_eq!(memory_limit_bytes(None, memory_mib * MIB), limit_mib * MIB, "{memory_mib}");
        }
        assert_eq!(memory_limit_bytes(Some(7), 1), 7);
    }

    #[test]
    fn the_store_gets_what_the_floor_leaves() {
        let mut config = config();
        let (used, free) = (10 * MIB, 50 * MIB + 100);
        assert_eq!(file_store_limit(&config, used, free), 60 * MIB);
        config.max_file_store = Some(20 * MIB);
        assert_eq!(file_store_limit(&config, used, free), 20 * MIB);
        config.min_free_disk = u64::MAX;
        assert_eq!(file_store_limit(&config, 0, free), FILE_STORE_MIN_BYTES);
    }

    #[test]
    fn the_lowest_control_group_limit_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (groups, root) = (dir.path().join("cgroup"), dir.path().join("fs"));
        let own = root.join("system.slice/chatto.service");
        std::fs::create_dir_all(&own).unwrap();
        std::fs::write(&groups, "0::/system.slice/chatto.service\n").unwrap();
        assert_eq!(cgroup_limit_bytes(&groups, &root), None);
        std::fs::write(own.join("memory.max"), "max\n").unwrap();
        assert_eq!(cgroup_limit_bytes(&groups, &root), None);
        std::fs::write(root.join("system.slice/memory.max"), "500\n").unwrap();
        std::fs::write(own.join("memory.max"), "700\n").unwrap();
        assert_eq!(cgroup_limit_bytes(&groups, &root), Some(500));
        std::fs::create_dir_all(root.join("memory/x")).unwrap();
        std::fs::write(root.join("memory/x/memory.limit_in_bytes"), "300\n").unwrap();
        std::fs::write(&groups, "4:cpu,memory:/x\n1:name=systemd:/\n").unwrap();
        assert_eq!(cgroup_limit_bytes(&groups, &root), Some(300));
    }
}
