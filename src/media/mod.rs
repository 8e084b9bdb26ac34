//! Image derivatives, each inside a memory slot.
