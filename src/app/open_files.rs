//! The limit of open files: shells and systemd allow 1,024 unless a program raises it up to the hard limit,
//! and each connection is an open file.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are open beside connections: store, logs, sockets of our own.
const OTHERS: u64 = 128;

/// Raises the soft limit so that `connections` fit, as far as the hard limit allows.
pub(super) fn raise(connections: usize) {
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHERS);
    let now = getrlimit(Resource::Nofile);
    // `None`: unlimited.
    let Some(soft) = now.current.filter(|soft| *soft < wanted) else { return };
    let raised = now.maximum.map_or(wanted, |hard| hard.min(wanted));
    let limit = Rlimit { current: Some(raised), maximum: now.maximum };
    let raised = if setrlimit(Resource::Nofile, limit).is_ok() { raised } else { soft };
    if raised < wanted {
        log::warn!(
            open_files = raised, wanted = wanted;
            "the limit of open files is too low for webserver.max_connections; raise it (LimitNOFILE)"
        );
    }
}
