//! How long a variant of a photo takes, and the memory of the process that makes it.

use std::time::{Duration, Instant};

use chatto::media::detect;
use chatto::media::image::WORKER_ARGUMENT;

use super::client::FileClient;
use super::content::Content;
use super::{Backend, Figures};
use crate::proc::number;
use crate::process;
use crate::report::Target;
use crate::server::Server;
use crate::watch::sampled;

/// Time between two looks at the worker, which lives for a tenth of a second or a few.
const INTERVAL: Duration = Duration::from_millis(2);
/// The size of the thumbnail whose address comes with an image.
const HEIGHT: u32 = 400;

/// Asks for the thumbnails of photos that were just uploaded.
pub(super) fn measure(backend: &Backend<'_>, photos: &[(usize, Content)], figures: &mut Figures) {
    let server = backend.server();
    let mut client = FileClient::connect(backend.filled, server.port, 0);
    for (megapixels, photo) in photos {
        let asset = client.stream("photo.jpg", photo);
        let url = asset["thumbnailAssetUrl"]["url"].as_str().expect("the address of a thumbnail");
        let mut seen = Seen::default();
        let began = Instant::now();
        let image = sampled(INTERVAL, || seen.look(&server), || client.read(url));
        let elapsed = began.elapsed();
        let made = detect(&image);
        assert_eq!((made.content_type, made.height), ("image/jpeg", HEIGHT), "the variant");
        assert!(seen.peak > 0, "the worker ended before it was seen: choose larger photos");
        let name = |what: &str| format!("variant of {megapixels} megapixels: {what}");
        figures.add(name("time"), "ms", elapsed.as_secs_f64() * 1e3, None);
        figures.add(name("CPU of the worker"), "ms", seen.cpu_us as f64 / 1e3, None);
        let limit = Some(Target::AtMost(48.0));
        figures.add(name("memory peak, worker"), "MiB", seen.peak as f64 / 1024.0, limit);
        figures.add(name("memory peak, all three"), "MiB", seen.all as f64 / 1024.0, None);
    }
}

/// What was seen of a worker.
#[derive(Default)]
struct Seen {
    pid: Option<u32>,
    /// Its memory at its largest, in KiB, as the kernel has noted it.
    peak: u64,
    /// Memory of chatto, nats-server and the worker at its largest, in KiB.
    all: u64,
    cpu_us: u64,
}

impl Seen {
    fn look(&mut self, server: &Server) {
        self.pid = self.pid.or_else(|| worker(server));
        let Some(pid) = self.pid else { return };
        let resident = process::memory(pid).resident;
        let both: u64 = server.memory().iter().map(|memory| memory.resident).sum();
        self.all = self.all.max(both + resident);
        self.peak = self.peak.max(number(pid, "status", "VmHWM:"));
        self.cpu_us = self.cpu_us.max(process::used(pid).cpu_us);
    }
}

/// Until a new process runs the worker's program it still shows the memory of the server.
fn worker(server: &Server) -> Option<u32> {
    let [chatto, _] = server.pids();
    process::children(chatto).into_iter().find(|pid| {
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.split('\0').any(|word| word == WORKER_ARGUMENT)
    })
}
