//! Counts with strace how often a process flushes the disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::wait::until;

/// The time that strace may take to attach.
const PATIENCE: Duration = Duration::from_secs(20);

/// strace on a running process.
pub(crate) struct Trace {
    child: Child,
}

impl Trace {
    /// `None`: strace is not installed, or not permitted.
    pub(crate) fn attach(pid: u32, file: &Path) -> Option<Self> {
        let printed = file.with_extension("printed");
        let mut child = Command::new("strace")
            .args(["-f", "-y", "-e", "trace=fsync,fdatasync,sync_file_range,openat", "-o"])
            .arg(file)
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stderr(File::create(&printed).unwrap())
            .spawn()
            .ok()?;
        let attached = until("strace attaches or ends", PATIENCE, || {
            if child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            let printed = std::fs::read_to_string(&printed).unwrap_or_default();
            printed.contains("attached").then_some(true)
        });
        attached.then_some(Self { child })
    }

    /// Detaches and counts flushes by stream.
    pub(crate) fn finish(mut self, file: &Path) -> BTreeMap<String, usize> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        self.child.wait().unwrap();
        let mut flushes = BTreeMap::new();
        let text = std::fs::read_to_string(file).unwrap();
        for line in text.lines().filter(|line| is_flush(line)) {
            *flushes.entry(stream_of(line)).or_default() += 1;
        }
        flushes
    }
}

fn is_flush(line: &str) -> bool {
    // strace prints a call that another thread interrupts in two halves; the first one was counted.
    let opened = line.contains("openat(") && (line.contains("O_SYNC") || line.contains("O_DSYNC"));
    opened || ["fsync(", "fdatasync(", "sync_file_range("].iter().any(|name| line.contains(name))
}

fn stream_of(line: &str) -> String {
    let rest = line.split("/streams/").nth(1).and_then(|rest| rest.split('/').next());
    rest.unwrap_or("others").to_owned()
}
