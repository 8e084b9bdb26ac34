//! The process that decodes: it reads a file from standard input and writes what it made to standard output.
//!
//! It is the program itself, started with [`WORKER_ARGUMENT`]; nothing else of the program runs in it.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, nice, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};

use super::{DecoderLimits, Made, Order, formats};
use crate::limits::IMAGE_CPU_MAX;

/// The first argument of a worker. It is no command for people.
pub const WORKER_ARGUMENT: &str = "--make-image";

/// The environment of a worker. mimalloc would take a gigabyte of addresses at once, which counts towards the limit of
/// memory, and the decoder of JPEG a thread for each processor.
pub const WORKER_ENVIRONMENT: [(&str, &str); 2] =
    [("MIMALLOC_DISALLOW_ARENA_ALLOC", "1"), ("RAYON_NUM_THREADS", "1")];

/// Addresses that are counted and mostly not used: stacks, and the ends of what the allocator takes.
const OVERHEAD_BYTES: usize = 8 << 20;

/// The first byte of what a worker writes.
const JPEG: u8 = b'J';
const WEBP: u8 = b'W';
const ANIMATED: u8 = b'A';

/// The arguments after [`WORKER_ARGUMENT`].
pub(super) fn arguments(order: &Order, limits: DecoderLimits) -> [String; 6] {
    [
        order.width.to_string(),
        order.height.to_string(),
        if order.cover { "cover" } else { "contain" }.to_owned(),
        if order.still { "still" } else { "moving" }.to_owned(),
        limits.memory_max_bytes.to_string(),
        limits.pixels_max.to_string(),
    ]
}

/// Decodes one image within the limits; fails if that is not possible.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Option<Vec<String>> = arguments.map(|word| word.into_string().ok()).collect();
    let done = arguments
        .as_deref()
        .and_then(read_arguments)
        .is_some_and(|(order, limits)| limit(limits).is_ok() && make(&order, limits).is_ok());
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn read_arguments(arguments: &[String]) -> Option<(Order, DecoderLimits)> {
    let [width, height, fit, frames, memory, pixels] = arguments else { return None };
    let order = Order {
        width: width.parse().ok().filter(|width| *width > 0)?,
        height: height.parse().ok().filter(|height| *height > 0)?,
        cover: fit == "cover",
        still: frames == "still",
    };
    let (memory_max_bytes, pixels_max) = (memory.parse().ok()?, pixels.parse().ok()?);
    Some((order, DecoderLimits { memory_max_bytes, pixels_max }))
}

fn make(order: &Order, limits: DecoderLimits) -> Result<(), formats::Undecodable> {
    let made = formats::make(io::stdin().lock(), order, limits)?;
    let mut out = io::stdout().lock();
    match made {
        Made::Animated => out.write_all(&[ANIMATED])?,
        Made::Image { content_type, bytes } => {
            out.write_all(&[if content_type == "image/jpeg" { JPEG } else { WEBP }])?;
            out.write_all(&bytes)?;
        }
    }
    Ok(out.flush()?)
}

/// What a worker has written.
pub(super) fn parse(mut written: bytes::Bytes) -> Option<Made> {
    let kind = *written.first()?;
    bytes::Buf::advance(&mut written, 1);
    Some(match kind {
        JPEG => Made::Image { content_type: "image/jpeg", bytes: written },
        WEBP => Made::Image { content_type: "image/webp", bytes: written },
        ANIMATED => Made::Animated,
        _ => return None,
    })
}

/// The kernel ends this process when it takes more, or when the server ends. If memory is short it is the first to go,
/// and it leaves the processor to others. SIGKILL is left to such ends: at the first limit of processor time it gets
/// SIGXCPU.
fn limit(limits: DecoderLimits) -> io::Result<()> {
    let set_both = |resource, current, maximum| {
        setrlimit(resource, Rlimit { current: Some(current), maximum: Some(maximum) })
    };
    let set = |resource, value| set_both(resource, value, value);
    let addresses = limits.memory_max_bytes.saturating_add(OVERHEAD_BYTES);
    set(Resource::Data, u64::try_from(addresses).unwrap_or(u64::MAX))?;
    let seconds = IMAGE_CPU_MAX.as_secs();
    set_both(Resource::Cpu, seconds, seconds.saturating_add(5))?;
    set(Resource::Core, 0)?;
    set(Resource::Fsize, 0)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    nice(10)?;
    // A system without it has no such choice.
    fs::write("/proc/self/oom_score_adj", "1000").ok();
    Ok(())
}
