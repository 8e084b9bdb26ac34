//! Owned, bounded, stoppable asynchronous work on smol: scopes of tasks, the stop signal, the clock,
//! deadlines, backoff, blocking work, memory slots and durable file writes.
//!
//! It knows nothing about chat, NATS or HTTP. It is the only module that names the executor, the thread
//! pool for blocking calls and the adapter that lets tokio libraries run here.

mod allocator;
mod backoff;
mod blocking;
mod clock;
mod compat;
mod executor;
mod files;
mod listeners;
mod pace;
mod scope;
mod slots;
mod stop;

pub use allocator::return_free_memory;
pub use backoff::Backoff;
pub use blocking::blocking;
pub use clock::{Clock, Elapsed, Timer};
pub use compat::{on_tokio, spawn_tokio};
pub use executor::Runtime;
pub use files::{limited_read, replace_durably, write_durably, write_durably_for};
pub use listeners::{PortListener, port_listeners};
pub use pace::Pace;
pub use scope::{Scope, ScopeFull, Task};
pub use slots::{MemorySlots, SlotGuard, SlotsBusy};
pub use stop::Stop;
