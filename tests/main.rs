//! The integration tests: one binary, because linking is what costs on two cores.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stderr,
    reason = "a failing unwrap is the verdict of the test, and its output goes to whoever reads it"
)]

mod acceptance;
mod blobs;
mod cli;
mod cost;
mod customer;
mod fuzz;
mod http;
mod layers;
mod nats;
mod readme;
mod realtime;
mod service;
mod storage;
mod supervisor;
mod support;
mod test_support;
mod torture;
