//! Makes system calls of a command fail, with strace: calls on the given paths are counted by name, and the wanted one
//! returns an error instead of being made.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::server::Server;

/// Calls that create, change, lock, list or look at files. Not every architecture has each.
const CALLS: &str = "?open,?openat,?mkdir,?mkdirat,?rename,?renameat,?renameat2,?unlink,?unlinkat,?rmdir,write,writev,\
                     pwrite64,ftruncate,fsync,fdatasync,syncfs,flock,?chmod,fchmod,?fchmodat,getdents64,?stat,?lstat,\
                     fstat,?newfstatat,?statx,statfs,fstatfs";

/// A call that fails.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// One call or several, separated by commas.
    pub(crate) calls: String,
    /// For example `EIO`.
    pub(crate) error: &'static str,
    /// Counted by call and thread.
    pub(crate) number: usize,
    /// Those after it fail too.
    pub(crate) for_good: bool,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, error, number, for_good } = self;
        let plus = if *for_good { "+" } else { "" };
        write!(f, "{calls}:error={error}:when={number}{plus}")
    }
}

/// What became of a command.
pub(crate) struct Ran {
    pub(crate) exit: i32,
    pub(crate) stderr: String,
    /// The calls on the paths.
    pub(crate) calls: Vec<String>,
}

/// Whether a process may be traced here. If not, the reason is printed. That strace is missing is a failure.
pub(crate) fn can_trace() -> bool {
    let mut traced = std::process::Command::new("strace");
    let output = traced.args(["-qq", "-e", "trace=none", "true"]).output();
    let output = output.expect("no strace (.ci/setup tests installs it)");
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        eprintln!("NOT TESTED HERE, no process can be traced: {}", why.trim());
    }
    output.status.success()
}

/// Runs `chatto ARGS` of this server; calls on these paths are seen, and one may fail.
pub(crate) fn run(server: &Server, paths: &[PathBuf], args: &str, fault: Option<&Fault>) -> Ran {
    let paths: String = paths.iter().map(|path| format!(" -P {}", path.display())).collect();
    let inject = fault.map_or(String::new(), |fault| format!(" -e inject={fault}"));
    let file = server.dir().join("strace");
    std::fs::remove_file(&file).ok();
    let output = server.shell(&format!(
        "exec strace -f --seccomp-bpf -qq -o {} -e signal=none -e trace={CALLS}{paths}{inject} chatto {args}",
        file.display()
    ));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let calls = std::fs::read_to_string(&file);
    let calls =
        calls.unwrap_or_else(|_| panic!("no strace (.ci/setup tests installs it): {stderr}"));
    let calls = calls.lines().map(str::to_owned).collect();
    Ran { exit: output.status.code().unwrap_or(-1), stderr, calls }
}

/// The names of the calls, and how often the thread that makes a call most makes it.
pub(crate) fn counts(calls: &[String]) -> BTreeMap<String, usize> {
    let mut by_thread: BTreeMap<(String, &str), usize> = BTreeMap::new();
    for line in calls {
        let (thread, rest) = line.split_once(' ').unwrap();
        // The second half of a call that another thread interrupted has no `(` after its name.
        let Some((name, _)) = rest.trim_start().split_once('(') else { continue };
        if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            *by_thread.entry((name.to_owned(), thread)).or_default() += 1;
        }
    }
    let mut counts = BTreeMap::new();
    for ((name, _), count) in by_thread {
        let most = counts.entry(name).or_default();
        *most = count.max(*most);
    }
    counts
}
