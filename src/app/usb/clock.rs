//! Whether the machine's clock is set: boards without a battery begin at a wrong time.

use std::path::Path;
use std::time::Duration;

use crate::limits::CLOCK_WAIT;
use crate::runtime::Clock;

/// Where systemd-timesyncd is running, and what it creates when the clock is set (systemd-timesyncd(8)).
const DIRECTORY: &str = "/run/systemd/timesync";
const SYNCHRONIZED: &str = "synchronized";

/// Waits until the clock is set, [`CLOCK_WAIT`] at most. `false`: it is not. Where another program sets the clock, it counts as
/// set. Blocks.
pub(super) fn wait_until_set() -> bool {
    wait(Path::new(DIRECTORY), CLOCK_WAIT)
}

fn wait(directory: &Path, limit: Duration) -> bool {
    let clock = Clock::system();
    let begin = clock.now();
    loop {
        if !directory.exists() || directory.join(SYNCHRONIZED).exists() {
            return true;
        }
        if clock.now().duration_since(begin) >= limit {
            return false;
        }
        std::thread::park_timeout(Duration::from_millis(500));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_that_timesyncd_has_not_set_yet_is_not_set() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!wait(folder.path(), Duration::ZERO));
        std::fs::write(folder.path().join(SYNCHRONIZED), "").unwrap();
        assert!(wait(folder.path(), Duration::ZERO));
        assert!(wait(&folder.path().join("absent"), Duration::ZERO));
    }
}
