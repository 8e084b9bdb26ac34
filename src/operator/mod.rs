//! The local socket: status, setup link, users, work on all files.
//!
//! HTTP/1 over a Unix socket, `POST /v1/{method}` with JSON, for commands of the same machine and
//! account. [`Operations`] are the methods; a command without a running server calls them
//! directly. It knows neither the configuration nor how results are shown.

mod assets;
mod client;
mod exit;
mod operations;
mod server;
mod status;
mod wire;

pub use client::{CallError, Client};
pub use exit::Exit;
pub use operations::{Operations, OperatorParts};
pub use server::{BindError, Server};
pub use status::{
    BackupStatus, BackupsStatus, DiskStatus, HeldRoomStatus, KeysStatus, NatsStatus, S3Status,
    StatusReport, StatusSource, StreamStatus,
};
pub use wire::OperatorError;

/// The version of the form of requests and responses.
pub const SCHEMA: u64 = 1;

/// This program's version, which both sides send.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
