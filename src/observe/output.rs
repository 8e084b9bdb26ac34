//! Standard output and standard error.
//!
//! The reader of either may stop reading: a pipe without a reader, a terminal after Ctrl-S. The server continues: a
//! separate thread writes, and lines that do not fit into its queue are dropped and counted.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::OnceLock;
use std::time::Duration;

use crate::limits::{OUTPUT_FLUSH_TIMEOUT, OUTPUT_QUEUE_MAX_BYTES};
use parking_lot::{Condvar, Mutex, MutexGuard};

/// Where a text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output: results.
    Output,
    /// Standard error: everything else.
    Error,
}

impl Stream {
    fn write(self, text: &str) {
        let written = match self {
            Self::Output => {
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
            }
            Self::Error => std::io::stderr().lock().write_all(text.as_bytes()),
        };
        // A closed reader needs no more output, and a log that cannot be written has no place to report it.
        written.ok();
    }
}

/// Texts that wait for the writer's thread.
#[derive(Default)]
struct Queue {
    texts: VecDeque<(Stream, String)>,
    /// Bytes of the waiting texts and of the one being written.
    bytes: usize,
    dropped: u64,
}

#[derive(Default)]
struct Writer {
    queue: Mutex<Queue>,
    filled: Condvar,
    emptied: Condvar,
}

static WRITER: OnceLock<&'static Writer> = OnceLock::new();

/// From now on a separate thread writes, so that no caller waits for a reader. Panic messages take the same path;
/// the default hook would write them directly. A panic of any thread ends the process.
pub fn write_in_background() {
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::capture();
        log::error!(backtrace:% = backtrace; "{panic}");
        flush(OUTPUT_FLUSH_TIMEOUT);
        // A release build aborts anyway. A development build would unwind and continue without the thread.
        std::process::abort();
    }));
    let writer: &'static Writer = Box::leak(Box::default());
    match std::thread::Builder::new().name("output".to_owned()).spawn(|| writer.run()) {
        // Only once: the thread of a second call waits forever and holds nothing.
        Ok(_running) => drop(WRITER.set(writer)),
        Err(error) => {
            log::error!(error:err = error; "cannot start the log's thread; a reader that stops reading will block the server");
        }
    }
}

/// Writes a text as it is.
pub fn print(stream: Stream, text: String) {
    match WRITER.get() {
        Some(writer) => writer.put(stream, text),
        None => stream.write(&text),
    }
}

/// Waits until everything is written, but at most `limit`. For the end of a process.
pub fn flush(limit: Duration) {
    let Some(writer) = WRITER.get() else { return };
    let mut queue = writer.lock();
    // Output that was not read by then is lost.
    writer.emptied.wait_while_for(&mut queue, |queue| queue.bytes > 0, limit);
}

impl Writer {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    fn put(&self, stream: Stream, text: String) {
        let mut queue = self.lock();
        if queue.bytes.saturating_add(text.len()) > OUTPUT_QUEUE_MAX_BYTES {
            queue.dropped = queue.dropped.saturating_add(1);
            return;
        }
        queue.bytes = queue.bytes.saturating_add(text.len());
        queue.texts.push_back((stream, text));
        self.filled.notify_one();
    }

    /// Takes the next text.
    fn take(&self) -> (Stream, String) {
        let mut queue = self.lock();
        loop {
            if let Some(next) = queue.texts.pop_front() {
                return next;
            }
            self.filled.wait(&mut queue);
        }
    }

    /// Counts a text as written. Returns how many texts were dropped since the last report, once there is room for one.
    fn finish(&self, bytes: usize) -> u64 {
        let mut queue = self.lock();
        queue.bytes = queue.bytes.saturating_sub(bytes);
        if queue.bytes == 0 {
            self.emptied.notify_all();
        }
        let has_room = queue.bytes <= OUTPUT_QUEUE_MAX_BYTES / 2;
        if has_room { std::mem::take(&mut queue.dropped) } else { 0 }
    }

    fn run(&self) -> ! {
        loop {
            let (stream, text) = self.take();
            stream.write(&text);
            let dropped = self.finish(text.len());
            if dropped > 0 {
                log::warn!(lines = dropped; "log lines were dropped here because earlier ones were not read");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let writer = Writer::default();
        let line = "x".repeat(1_000);
        let fits = OUTPUT_QUEUE_MAX_BYTES / line.len();
        for _ in 0..fits + 7 {
            writer.put(Stream::Error, line.clone());
        }
        let (stream, text) = writer.take();
        assert_eq!((stream, text.len()), (Stream::Error, 1_000));
        // The text being written counts until it is written.
        writer.put(Stream::Error, line.clone());
        assert_eq!(writer.finish(text.len()), 0, "a line that reports it would be dropped too");
        writer.put(Stream::Output, line);
        assert_eq!(writer.lock().texts.len(), fits);
        let mut dropped_lines = 0;
        for _ in 0..fits {
            let (_, text) = writer.take();
            dropped_lines += writer.finish(text.len());
        }
        assert_eq!(dropped_lines, 8);
        assert_eq!(writer.finish(0), 0);
    }
}
