//! Limits of the process of nats-server, and of the server in a container.

use std::time::Duration;

use super::KIB;

/// A longer log line of nats-server is truncated.
pub const CHILD_LINE_MAX_BYTES: usize = 4 * KIB;
/// Error lines of nats-server that are kept to explain its end.
pub const CHILD_LINES_KEPT: usize = 16;
/// How much sooner than us the kernel is to end nats-server when memory runs out, on the scale of `oom_score_adj`
/// (proc(5): -1000 to 1000, of which 1000 is all of the memory). 300 keeps it first even where it uses a few megabytes and
/// we have just verified a password.
pub const CHILD_OOM_SCORE_ABOVE: i32 = 300;
/// The highest `oom_score_adj` (proc(5)).
pub const OOM_SCORE_MAX: i32 = 1000;

// --- containers ----------------------------------------------------------------------------------

/// How often PID 1 of a container looks for processes whose exit status nobody has read.
pub const ORPHANS_INTERVAL: Duration = Duration::from_secs(10);
/// How long a program of the system may take that changes a label.
pub const SYSTEM_PROGRAM_TIMEOUT: Duration = Duration::from_secs(60);
/// How often it is looked whether it has ended.
pub const SYSTEM_PROGRAM_INTERVAL: Duration = Duration::from_millis(50);
/// Time for the response to a health check by the program itself (`wget` in the container image). Containers' own
/// deadlines are usually shorter.
pub const HEALTH_CHECK_TIMEOUT: Duration = Duration::from_secs(10);
