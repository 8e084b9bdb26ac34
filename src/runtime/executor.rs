//! The executor and its worker threads.

use std::future::Future;
use std::sync::Arc;

use smol::Executor;

use super::Stop;

/// A handle to the executor. Cloning is cheap; work is started through [`super::Scope`] only.
#[derive(Clone)]
pub struct Runtime {
    pub(super) executor: Arc<Executor<'static>>,
}

impl Runtime {
    /// Runs `main` to its end on this thread, with `threads` more workers for spawned tasks. From then on the
    /// process uses no transparent huge pages.
    ///
    /// The workers end when `main` returns; tasks that no scope has joined by then are dropped.
    pub fn run<F, T>(threads: usize, main: impl FnOnce(Self) -> F) -> T
    where
        F: Future<Output = T>,
    {
        // Huge pages triple the memory of an idle process; nats-server inherits the setting.
        if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
            log::debug!(error:err = error; "cannot turn off huge pages");
        }
        let runtime = Self { executor: Arc::new(Executor::new()) };
        let stop = Stop::new();
        std::thread::scope(|workers| {
            for n in 0..threads.max(1) {
                let executor = Arc::clone(&runtime.executor);
                let stop = stop.clone();
                // Without a worker the process would still run its main task, but spawned work needs one,
                // so this error may end the program.
                let worker = std::thread::Builder::new().name(format!("worker-{n}"));
                let started = worker.spawn_scoped(workers, move || {
                    smol::block_on(executor.run(stop.stopped()));
                });
                if let Err(error) = started {
                    log::error!(error:err = error; "cannot start a worker thread");
                }
            }
            let _stop_workers = StopOnDrop(stop.clone());
            smol::block_on(runtime.executor.run(main(runtime.clone())))
        })
    }

    /// The number of worker threads for this machine besides the first: one less than its cores, at most
    /// three, because the work is mostly waiting for nats-server.
    #[must_use]
    pub fn default_threads() -> usize {
        std::thread::available_parallelism().map_or(1, |n| n.get().min(4).saturating_sub(1).max(1))
    }
}

struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}
