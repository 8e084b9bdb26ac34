//! Chatto: a self-hosted team-chat server for small boards, with its own NATS store.
//!
//! `src/README.md` maps the modules and says which may use which; `tests/layers.rs` enforces it.

pub mod app;
pub mod backup;
pub mod blobs;
pub mod cli;
pub mod config;
pub mod contract;
pub mod crypto;
pub mod domain;
#[cfg(test)]
mod golden;
pub mod http;
pub mod limits;
pub mod media;
pub mod nats;
pub mod observe;
pub mod operator;
pub mod present;
pub mod realtime;
pub mod runtime;
pub mod service;
pub mod storage;
pub mod supervisor;
mod test_build;
pub mod web;
