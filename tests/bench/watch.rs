//! The memory of a server's two processes while something is done.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use crate::server::Server;

/// Time between two looks at the memory.
const INTERVAL: Duration = Duration::from_millis(20);

/// Resident memory of chatto and of nats-server, in MiB: before, and when the sum of both was the largest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peak {
    idle: [f64; 2],
    peak: [f64; 2],
}

impl Peak {
    /// The sum of both at its largest.
    pub(crate) fn both(&self) -> f64 {
        self.peak.iter().sum()
    }

    /// By how much each had grown then.
    pub(crate) fn growth(&self) -> [f64; 2] {
        [self.peak[0] - self.idle[0], self.peak[1] - self.idle[1]]
    }
}

/// Does `work` and measures the memory of the server's processes meanwhile.
pub(crate) fn watch<T>(server: &Server, work: impl FnOnce() -> T) -> (T, Peak) {
    let resident = || server.memory().map(|memory| memory.resident as f64 / 1024.0);
    let idle = resident();
    let mut peak = Peak { idle, peak: idle };
    let sample = || {
        let now = resident();
        if now.iter().sum::<f64>() > peak.both() {
            peak.peak = now;
        }
    };
    let done = sampled(INTERVAL, sample, work);
    (done, peak)
}

/// Calls `sample` in a thread of its own again and again, as long as `work` takes.
pub(crate) fn sampled<T>(
    interval: Duration,
    mut sample: impl FnMut() + Send,
    work: impl FnOnce() -> T,
) -> T {
    let (working, has_ended) = mpsc::channel::<()>();
    std::thread::scope(|threads| {
        threads.spawn(move || {
            // Nothing is ever sent: the channel is closed at the end of the work.
            while has_ended.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                sample();
            }
        });
        let done = work();
        drop(working);
        done
    })
}
