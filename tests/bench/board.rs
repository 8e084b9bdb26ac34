//! The memory of a 512 MB board, as a control group: the server finds the limit and chooses its settings by it.

use std::path::{Path, PathBuf};
use std::process::Command;

const BYTES: u64 = 512 << 20;

/// Where the groups of memory are mounted, and the file of their limit: cgroup v2 and v1.
const HIERARCHIES: [(&str, &str); 2] =
    [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")];

/// A control group for servers. Dropping it removes it; no process may be in it then.
pub(crate) struct Board {
    group: Option<PathBuf>,
}

impl Board {
    /// Making a group needs root; without it, servers run with the memory of this machine.
    pub(crate) fn new() -> Self {
        let group = HIERARCHIES.into_iter().find_map(|(root, limit)| {
            let group = Path::new(root).join(format!("chatto-bench-{}", std::process::id()));
            std::fs::create_dir(&group).ok()?;
            let is_limited = group.join(limit).exists()
                && std::fs::write(group.join(limit), BYTES.to_string()).is_ok();
            if !is_limited {
                std::fs::remove_dir(&group).ok();
            }
            is_limited.then_some(group)
        });
        if group.is_none() {
            eprintln!("no control group for memory: the server sees the memory of this machine");
        }
        Self { group }
    }

    /// Whether there is a limit.
    pub(crate) fn is_limited(&self) -> bool {
        self.group.is_some()
    }

    /// A command that runs a program in the group.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let Some(group) = &self.group else { return Command::new(program) };
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]);
        command.arg(group.join("cgroup.procs")).arg(program);
        command
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        if let Some(group) = &self.group
            && let Err(error) = std::fs::remove_dir(group)
        {
            eprintln!("{} stays: {error}", group.display());
        }
    }
}
