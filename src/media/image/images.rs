//! Starts the processes that decode, and no more of them at a time than there is memory for.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::pin::Pin;

use bytes::Bytes;
use futures_lite::stream::{Stream, StreamExt};
use futures_lite::{AsyncReadExt, AsyncWriteExt, future};
use rustix::process::Signal;
use smol::process::unix::CommandExt;
use smol::process::{Child, Command, Stdio};

use super::worker::{WORKER_ARGUMENT, WORKER_ENVIRONMENT, arguments, parse};
use super::{DecoderLimits, Made, Order};
use crate::limits::{IMAGE_DEADLINE, IMAGE_MADE_MAX_BYTES, IMAGE_QUEUE_MAX, IMAGE_WAIT_MAX};
use crate::runtime::{Clock, MemorySlots, SlotGuard};

/// How images are made.
#[derive(Debug, Clone)]
pub struct Config {
    /// This program: [`WORKER_ARGUMENT`] makes it a worker.
    pub program: PathBuf,
    /// Images that are made at a time.
    pub slots: usize,
    /// What making one may take.
    pub limits: DecoderLimits,
}

/// An image was not made.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Too many are waiting, or this one has waited too long.
    #[error("too many images are being made")]
    Busy,
    /// It is damaged or none, or it would take more memory or processor time than it may.
    #[error("the image cannot be decoded")]
    Undecodable,
    /// The result has too many bytes.
    #[error("the image is too large")]
    TooLarge,
    /// The file came too slowly, or the machine is overloaded.
    #[error("the image was not made in time")]
    Late,
    /// Somebody else has ended the process that decodes: the kernel, if the machine is short of memory.
    #[error("the process that decodes images was killed")]
    Killed,
    /// The process that decodes did not start.
    #[error("cannot start the process that decodes images")]
    Start(#[source] io::Error),
    /// The file could not be read.
    #[error("cannot read the image's file")]
    File(#[source] io::Error),
}

/// Resizes images. Clones share the slots.
#[derive(Clone)]
pub struct Images {
    config: Config,
    slots: MemorySlots,
    clock: Clock,
}

/// The bytes of a file.
pub type FileStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

impl Images {
    /// Starts nothing.
    #[must_use]
    pub fn build(config: Config, clock: &Clock) -> Self {
        let slots = MemorySlots::new(config.slots.max(1), IMAGE_QUEUE_MAX);
        Self { config, slots, clock: clock.clone() }
    }

    /// Whether an image of this size may be decoded; 0: the worker finds out.
    #[must_use]
    pub fn takes(&self, width: u32, height: u32) -> bool {
        u64::from(width).saturating_mul(height.into()) <= self.config.limits.pixels_max
    }

    /// Waits until an image may be made.
    ///
    /// # Errors
    /// [`ImageError::Busy`] when too many are waiting, or after a while.
    pub async fn slot(&self) -> Result<SlotGuard, ImageError> {
        let slot = self.clock.timeout(IMAGE_WAIT_MAX, self.slots.take()).await;
        slot.ok().and_then(Result::ok).ok_or(ImageError::Busy)
    }

    /// Makes an image of a file. Who holds the slot until the result is kept spares those who wait the same work.
    ///
    /// # Cancel safety
    /// Dropping it ends the process that decodes.
    pub async fn make(
        &self,
        _slot: &SlotGuard,
        order: &Order,
        file: FileStream,
    ) -> Result<Made, ImageError> {
        let worker = self.start(order).map_err(ImageError::Start)?;
        let work = decode(worker, file);
        self.clock.timeout(IMAGE_DEADLINE, work).await.unwrap_or(Err(ImageError::Late))
    }

    fn start(&self, order: &Order) -> io::Result<Child> {
        Command::new(&self.config.program)
            .arg0("chatto")
            .arg(WORKER_ARGUMENT)
            .args(arguments(order, self.config.limits))
            .env_clear()
            .envs(WORKER_ENVIRONMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
    }
}

/// Feeds the file to the worker and reads what it writes, both at once: it may write before it has read everything.
async fn decode(mut worker: Child, mut file: FileStream) -> Result<Made, ImageError> {
    let (Some(mut stdin), Some(stdout)) = (worker.stdin.take(), worker.stdout.take()) else {
        return Err(ImageError::Undecodable);
    };
    let feed = async move {
        while let Some(chunk) = file.next().await {
            // It ends as soon as it has seen enough.
            if stdin.write_all(&chunk.map_err(ImageError::File)?).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    let read = async move {
        let mut written = Vec::new();
        let mut limited = stdout.take(IMAGE_MADE_MAX_BYTES);
        limited.read_to_end(&mut written).await.map_err(|_| ImageError::Undecodable)?;
        Ok(written)
    };
    let ((), written) = future::try_zip(feed, read).await?;
    if written.len() as u64 >= IMAGE_MADE_MAX_BYTES {
        return Err(ImageError::TooLarge);
    }
    let status = worker.status().await.map_err(|_| ImageError::Undecodable)?;
    // Its own limits end it with other signals.
    if status.signal() == Some(Signal::KILL.as_raw()) {
        return Err(ImageError::Killed);
    }
    let made = parse(written.into()).filter(|_| status.success());
    made.ok_or(ImageError::Undecodable)
}
