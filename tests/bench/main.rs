//! The benchmark (`make bench`): a release build as a process of its own, a filled store, and the
//! figures of `docs/performance.md`. Sizes and choice of figures come from the environment; see
//! `options`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "it measures real time and prints; whatever fails ends it with its place"
)]

mod backups;
mod board;
mod content;
mod crowd;
mod files;
mod fill;
mod flushes;
mod http;
mod load;
mod machine;
mod options;
mod pages;
mod posts;
mod process;
mod report;
mod room;
mod server;
mod socket;
mod sockets;
mod start;
mod store;
mod watch;

#[path = "../support/port.rs"]
mod port;
#[path = "../support/proc.rs"]
mod proc;
#[path = "../support/s3/seaweedfs.rs"]
mod seaweedfs;
#[path = "../support/trace.rs"]
mod trace;
#[path = "../support/wait.rs"]
mod wait;

use std::cell::OnceCell;
use std::path::Path;
use std::process::Command;

use board::Board;
use fill::Filled;
use options::Options;
use report::Report;
use server::Server;

/// As the product's own: the store is filled by its code.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What every figure needs.
pub(crate) struct Bench {
    options: Options,
    filled: OnceCell<Filled>,
}

impl Bench {
    /// The filled store; made when the first figure wants it.
    fn filled(&self) -> &Filled {
        self.filled.get_or_init(|| Filled::get(&self.options, self.options.messages))
    }

    /// A server on a data directory.
    fn server(&self, data: &Path, settings: &[(&str, &str)]) -> Server {
        self.start(Command::new(&self.options.server), data, settings)
    }

    /// A server with the memory of a board.
    fn server_on(&self, board: &Board, data: &Path, settings: &[(&str, &str)]) -> Server {
        self.start(board.command(&self.options.server), data, settings)
    }

    fn start(&self, command: Command, data: &Path, settings: &[(&str, &str)]) -> Server {
        let server = Server::start(command, data, settings);
        let [chatto, nats] = server.pids();
        eprintln!("chatto runs as {chatto}, its nats-server as {nats}");
        server
    }
}

fn main() {
    server::stop_on_panic();
    let bench = Bench { options: Options::from_environment(), filled: OnceCell::new() };
    let machine = machine::describe(&bench.options);
    let mut report = Report::default();
    if bench.options.wants("start") {
        start::starts(&bench, &mut report);
    }
    if bench.options.wants("memory") {
        start::memory(&bench, &mut report);
    }
    if bench.options.wants("posts") {
        posts::measure(&bench, &mut report);
    }
    if bench.options.wants("pages") {
        pages::measure(&bench, &mut report);
    }
    if bench.options.wants("sockets") {
        sockets::measure(&bench, &mut report);
    }
    if bench.options.wants("files") {
        files::measure(&bench, &mut report);
    }
    if bench.options.wants("backups") {
        backups::measure(&bench, &mut report);
    }
    report.finish(&machine, &bench.options.dir.join("figures.json"));
}
