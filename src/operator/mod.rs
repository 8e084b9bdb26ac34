//! The local socket: status, setup link, users.

mod exit;

pub use exit::Exit;
