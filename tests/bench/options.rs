//! What to measure: the environment's choices, with the full benchmark as default.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Every figure, in the order of the output.
pub(crate) const FIGURES: [&str; 7] =
    ["start", "memory", "posts", "pages", "sockets", "files", "backups"];

/// The choices.
pub(crate) struct Options {
    figures: Vec<String>,
    /// The server under test.
    pub(crate) server: PathBuf,
    /// Where stores and results lie.
    pub(crate) dir: PathBuf,
    /// Messages of the filled store.
    pub(crate) messages: u32,
    /// Its users.
    pub(crate) users: u32,
    /// Realtime sockets at a time, one figure for each number.
    pub(crate) sockets: Vec<usize>,
    /// Bytes of the largest file.
    pub(crate) file_bytes: usize,
    /// How many small files are uploaded.
    pub(crate) small_files: usize,
    /// Sizes of photos, in megapixels.
    pub(crate) megapixels: Vec<usize>,
    /// Length of one timed run.
    pub(crate) run: Duration,
    /// Runs of one figure; the middle one counts.
    pub(crate) runs: usize,
}

impl Options {
    /// As the environment says; a value that is no number ends the program.
    pub(crate) fn from_environment() -> Self {
        let target = Path::new("target");
        let figures = std::env::var("CHATTO_BENCH").unwrap_or_default();
        let figures: Vec<String> = figures.split([' ', ',']).map(str::to_owned).collect();
        let figures: Vec<String> = figures.into_iter().filter(|name| !name.is_empty()).collect();
        for name in &figures {
            assert!(FIGURES.contains(&name.as_str()), "CHATTO_BENCH knows {FIGURES:?}, not {name}");
        }
        Self {
            figures,
            server: path("CHATTO_BENCH_SERVER").unwrap_or_else(built_server),
            dir: path("CHATTO_BENCH_DIR").unwrap_or_else(|| target.join("bench")),
            messages: number("CHATTO_BENCH_MESSAGES", 1_000_000),
            users: number("CHATTO_BENCH_USERS", 200).max(16),
            sockets: numbers("CHATTO_BENCH_SOCKETS", &[500, 1_000]),
            file_bytes: numbers("CHATTO_BENCH_FILE_BYTES", &[1 << 30])[0].max(1),
            small_files: numbers("CHATTO_BENCH_SMALL_FILES", &[1_000])[0].max(1),
            megapixels: numbers("CHATTO_BENCH_MEGAPIXELS", &[12, 48]),
            run: Duration::from_secs(number("CHATTO_BENCH_SECONDS", 5).max(1).into()),
            runs: number("CHATTO_BENCH_RUNS", 5).max(1) as usize,
        }
    }

    /// Whether a figure is wanted.
    pub(crate) fn wants(&self, figure: &str) -> bool {
        self.figures.is_empty() || self.figures.iter().any(|name| name == figure)
    }
}

fn path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn number(name: &str, default: u32) -> u32 {
    let first = numbers(name, &[]).first().copied();
    first.map_or(default, |number| u32::try_from(number).unwrap())
}

fn numbers(name: &str, default: &[usize]) -> Vec<usize> {
    let text = std::env::var(name).unwrap_or_default();
    let parse = |text: &str| {
        let digits = text.replace('_', "");
        digits.parse().unwrap_or_else(|_| panic!("{name}: {text:?} is no number"))
    };
    let given = text.split([' ', ',']).filter(|text| !text.is_empty());
    let given: Vec<usize> = given.map(parse).collect();
    if given.is_empty() { default.to_vec() } else { given }
}

/// The release binary that was built with this program: `<profile>/examples/bench` lies beside it.
fn built_server() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().and_then(Path::parent).expect("the folder of the build").join("chatto")
}
