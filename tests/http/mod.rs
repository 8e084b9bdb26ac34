//! The edge over real sockets: the responses to raw bytes, and what clients see.

mod accounts;
mod branding;
mod calls;
mod chat;
mod client_dir;
mod cursors;
mod deadlines;
mod files;
mod foreign;
mod forwarded;
mod fuzz;
mod images;
mod limits;
mod operations;
mod pages;
mod proxies;
mod realtime;
mod startup;
mod streams;
mod support;
mod tls;
mod torture;
mod wire;
