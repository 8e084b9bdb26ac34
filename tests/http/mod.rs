//! The edge over real sockets: what raw bytes get for an answer, and what clients see.

mod accounts;
mod calls;
mod support;
mod wire;
