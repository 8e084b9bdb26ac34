//! What the product costs, in counts that do not depend on the machine's speed: flushes, bytes,
//! allocations. Each ceiling is what was measured and a little more; `make bench` has the times, and
//! `realtime::idle` the memory of a socket.

mod allocations;
mod disk;
