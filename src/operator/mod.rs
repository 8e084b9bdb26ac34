//! The local socket: status, setup link, users.
