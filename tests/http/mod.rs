//! The edge over real sockets: what raw bytes get for an answer, and what clients see.

mod accounts;
mod calls;
mod chat;
mod deadlines;
mod support;
mod waiting;
mod wire;
