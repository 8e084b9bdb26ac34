//! Files: how fast they are uploaded and downloaded, what memory and writing that takes, and how long a variant
//! of an image takes.

mod client;
mod content;
mod photo;
mod s3;
mod variants;

use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::Bench;
use crate::board::Board;
use crate::fill::Filled;
use crate::report::{Report, Target};
use crate::server::Server;
use crate::start::SMALL_BOARD;
use crate::watch::{Peak, watch};
use client::FileClient;
use content::Content;
use s3::SeaweedFs;

/// Runs whose median counts, at most: each starts many servers.
const RUNS: usize = 3;
/// The time that a server is idle before anything is measured.
const IDLE: Duration = Duration::from_secs(5);
/// Clients that upload at once.
const CLIENTS: u8 = 8;
/// A file just below the default of `core.assets.max_upload_size`.
const CHUNKED_BYTES: usize = 24 << 20;
const SMALL_BYTES: usize = 10 << 10;
/// Time without writing after which nats-server has written what there was to write.
const QUIET: Duration = Duration::from_secs(2);
/// The longest wait for it.
const QUIET_PATIENCE: Duration = Duration::from_secs(120);

/// The files that are uploaded.
struct Contents {
    /// Uploaded and downloaded as a stream.
    whole: Content,
    /// An equal part for each of several clients, as streams.
    part: Content,
    /// Uploaded in chunks.
    chunked: Content,
    small: Content,
    /// With their megapixels.
    photos: Vec<(usize, Content)>,
}

/// Where a server stores its files.
struct Backend<'a> {
    name: &'static str,
    bench: &'a Bench,
    filled: &'a Filled,
    contents: &'a Contents,
    board: &'a Board,
    data: PathBuf,
    settings: Vec<(&'static str, String)>,
}

/// Figures that are measured in turn, run by run, in the order of their first values.
#[derive(Default)]
struct Figures(Vec<Figure>);

struct Figure {
    name: String,
    unit: &'static str,
    target: Option<Target>,
    values: Vec<f64>,
}

/// All figures of files.
pub(crate) fn measure(bench: &Bench, report: &mut Report) {
    let board = Board::new();
    let memory =
        if board.is_limited() { "512 MB of memory" } else { "512 MB-board setting of NATS" };
    report.part(&format!("Files, {memory}"));
    let filled = Filled::get(&bench.options, 0);
    let whole = bench.options.file_bytes;
    let photo = |megapixels: &usize| {
        let photo = photo::photo(*megapixels);
        eprintln!("the photo of {megapixels} megapixels has {} KB", photo.len() / 1000);
        (*megapixels, Content::of(photo))
    };
    let contents = Contents {
        whole: Content::random(whole),
        part: Content::random(whole.div_ceil(CLIENTS.into())),
        chunked: Content::random(CHUNKED_BYTES.min(whole)),
        small: Content::random(SMALL_BYTES),
        photos: bench.options.megapixels.iter().map(photo).collect(),
    };
    let backend = |name, mut settings: Vec<_>| {
        let max_bytes = whole.max(chatto::limits::UPLOAD_MAX_BYTES_DEFAULT).to_string();
        settings.push(("CHATTO_CORE_ASSETS_MAX_UPLOAD_SIZE", max_bytes));
        let data = filled.copy(&bench.options, "files");
        Backend { name, bench, filled: &filled, contents: &contents, board: &board, data, settings }
    };
    let run = bench.options.dir.join("run");
    let file = run.join("file.bin");
    std::fs::create_dir_all(&run).unwrap();
    write(&file, &contents.whole);
    let mut figures = Figures::default();
    let runs = bench.options.runs.min(RUNS);
    for number in 0..runs {
        eprintln!("files: run {} of {runs}", number + 1);
        let store = SeaweedFs::start(&run.join("seaweedfs"));
        let s3 = backend("S3", store.settings());
        in_s3(&s3, &store, &file, number, &mut figures);
        drop(store);
        let nats = backend("NATS", Vec::new());
        in_nats(&nats, &mut figures);
        std::fs::remove_dir_all(&nats.data).unwrap();
    }
    std::fs::remove_file(&file).unwrap();
    figures.report(report);
}

/// Uploads so many bytes as some files, and posts each, so that they stay.
pub(crate) fn upload_parts(filled: &Filled, port: u16, bytes: usize, parts: usize) {
    let content = Content::random(bytes.div_ceil(parts));
    let mut client = FileClient::connect(filled, port, 0);
    for _ in 0..parts {
        let asset = client.stream("part.bin", &content);
        client.post(asset["id"].as_str().expect("the id of an asset"));
    }
}

/// Whether chatto or rclone is first alternates.
fn in_s3(
    backend: &Backend<'_>,
    store: &SeaweedFs,
    file: &Path,
    number: usize,
    figures: &mut Figures,
) {
    let rclone = || {
        rustix::fs::sync();
        store.time_rclone(file)
    };
    let before = (!number.is_multiple_of(2)).then(rclone);
    let (asset, own) = backend.upload(Some(16.0), figures);
    let theirs = before.unwrap_or_else(rclone);
    let size = backend.contents.whole.size;
    let name = format!("rclone copy of {} to the same S3", shown_size(size));
    figures.add(name, "MB/s", rate(size, theirs), None);
    let share = theirs.as_secs_f64() / own.as_secs_f64() * 100.0;
    let least = Some(Target::AtLeast(80.0));
    figures.add("S3, upload: share of the rate of rclone".to_owned(), "%", share, least);
    backend.download(&asset, figures);
    backend.streams(figures);
    backend.chunks(figures);
    backend.small(figures);
}

fn in_nats(backend: &Backend<'_>, figures: &mut Figures) {
    let (asset, _) = backend.upload(None, figures);
    backend.download(&asset, figures);
    backend.chunks(figures);
    backend.small(figures);
    written(backend, figures);
    variants::measure(backend, &backend.contents.photos, figures);
}

impl Backend<'_> {
    /// A server that has started and is idle.
    fn server(&self) -> Server {
        let settings: Vec<_> =
            self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let settings = [&settings[..], &[SMALL_BOARD]].concat();
        let server = self.bench.server_on(self.board, &self.data, &settings);
        rustix::fs::sync();
        std::thread::sleep(IDLE);
        server
    }

    /// One stream of the large file; returns the asset and the time.
    fn upload(&self, limit: Option<f64>, figures: &mut Figures) -> (String, Duration) {
        let (server, content) = (self.server(), &self.contents.whole);
        let upload = |client: &mut FileClient<'_>| client.stream("file.bin", content);
        let ((elapsed, assets), peak) = watch(&server, || self.at_once(&server, 1, upload));
        let name = format!("{}, upload of {}", self.name, shown_size(content.size));
        figures.add(format!("{name}: rate"), "MB/s", rate(content.size, elapsed), None);
        figures.add_memory(&name, peak, limit);
        (assets[0]["id"].as_str().expect("the id of an asset").to_owned(), elapsed)
    }

    fn download(&self, asset: &str, figures: &mut Figures) {
        let (server, size) = (self.server(), self.contents.whole.size);
        let download = |client: &mut FileClient<'_>| client.download(asset, size);
        let ((elapsed, _), peak) = watch(&server, || self.at_once(&server, 1, download));
        let name = format!("{}, download of {}", self.name, shown_size(size));
        figures.add(format!("{name}: rate"), "MB/s", rate(size, elapsed), None);
        figures.add_memory(&name, peak, None);
    }

    /// Several streams at once.
    fn streams(&self, figures: &mut Figures) {
        let (server, content) = (self.server(), &self.contents.part);
        let upload = |client: &mut FileClient<'_>| client.stream("file.bin", content);
        self.many(&server, ("as streams", content), upload, figures);
    }

    /// Several uploads in chunks at once.
    fn chunks(&self, figures: &mut Figures) {
        let (server, content) = (self.server(), &self.contents.chunked);
        let upload = |client: &mut FileClient<'_>| client.upload("file.bin", content);
        self.many(&server, ("in chunks", content), upload, figures);
    }

    fn many<T: Send>(
        &self,
        server: &Server,
        (how, content): (&str, &Content),
        upload: impl Fn(&mut FileClient<'_>) -> T + Sync,
        figures: &mut Figures,
    ) {
        let ((elapsed, _), peak) = watch(server, || self.at_once(server, CLIENTS, upload));
        let size = shown_size(content.size);
        let name = format!("{}, {CLIENTS} uploads of {size} {how}", self.name);
        let rate = rate(content.size * usize::from(CLIENTS), elapsed);
        figures.add(format!("{name}: rate"), "MB/s", rate, None);
        figures.add_memory(&name, peak, Some(48.0));
    }

    /// Many small files, each in one chunk.
    fn small(&self, figures: &mut Figures) {
        let (server, files) = (self.server(), self.bench.options.small_files);
        for clients in [1, CLIENTS] {
            let left = AtomicUsize::new(files);
            let upload = |client: &mut FileClient<'_>| {
                let take = |left: usize| left.checked_sub(1);
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                    client.upload("small.bin", &self.contents.small);
                }
            };
            let (elapsed, _) = self.at_once(&server, clients, upload);
            let size = shown_size(SMALL_BYTES);
            let name = format!("{}, {files} files of {size}, {clients} clients: rate", self.name);
            figures.add(name, "files/s", files as f64 / elapsed.as_secs_f64(), None);
        }
    }

    /// Lets each of several clients do something; returns the time until the last one has done it, and the results.
    fn at_once<T: Send>(
        &self,
        server: &Server,
        clients: u8,
        work: impl Fn(&mut FileClient<'_>) -> T + Sync,
    ) -> (Duration, Vec<T>) {
        let start = Barrier::new(usize::from(clients) + 1);
        std::thread::scope(|threads| {
            let client = |number| {
                let (filled, port, start, work) = (self.filled, server.port, &start, &work);
                threads.spawn(move || {
                    let mut client = FileClient::connect(filled, port, number);
                    start.wait();
                    work(&mut client)
                })
            };
            let clients: Vec<_> = (0..clients).map(client).collect();
            start.wait();
            let began = Instant::now();
            let done = clients.into_iter().map(|client| client.join().unwrap()).collect();
            (began.elapsed(), done)
        })
    }
}

/// What nats-server writes for a file that is uploaded in chunks, and for one that is deleted.
fn written(backend: &Backend<'_>, figures: &mut Figures) {
    let (server, content) = (backend.server(), &backend.contents.chunked);
    let mut client = FileClient::connect(backend.filled, server.port, 0);
    let size = shown_size(content.size);
    let mut posted = Vec::new();
    for _ in 0..3 {
        let before = written_bytes(&server);
        let asset = client.upload("file.bin", content);
        let share = (written_bytes(&server) - before) as f64 / content.size as f64;
        let name = format!("NATS, upload of {size} in chunks: written by nats-server");
        figures.add(name, "of its size", share, Some(Target::AtMost(1.15)));
        posted.push((client.post(&asset), asset));
    }
    // The one in the middle has neighbours in the store, before it and after it.
    let (message, asset) = &posted[1];
    let before = written_bytes(&server);
    client.delete(message);
    let written = (written_bytes(&server) - before) as f64 / 1e6;
    let name = format!("NATS, deletion of {size}: written by nats-server");
    figures.add(name, "MB", written, Some(Target::AtMost(20.0)));
    assert_eq!(client.look_at(asset).0, 404, "status of the deleted file");
}

/// What nats-server has written so far, once it has written everything.
fn written_bytes(server: &Server) -> u64 {
    let written = || {
        rustix::fs::sync();
        server.used()[1].written
    };
    let (mut last, end) = (written(), Instant::now() + QUIET_PATIENCE);
    loop {
        std::thread::sleep(QUIET);
        let now = written();
        if now == last {
            return now;
        }
        assert!(Instant::now() < end, "nats-server writes all the time");
        last = now;
    }
}

impl Figures {
    fn add(&mut self, name: String, unit: &'static str, value: f64, target: Option<Target>) {
        match self.0.iter_mut().find(|figure| figure.name == name) {
            Some(figure) => figure.values.push(value),
            None => self.0.push(Figure { name, unit, target, values: vec![value] }),
        }
    }

    fn add_memory(&mut self, name: &str, peak: Peak, limit: Option<f64>) {
        let growth = peak.growth();
        let both = growth.iter().sum();
        self.add(format!("{name}: memory growth"), "MiB", both, limit.map(Target::AtMost));
        for (process, growth) in ["chatto", "nats-server"].into_iter().zip(growth) {
            self.add(format!("{name}: growth of {process}"), "MiB", growth, None);
        }
        self.add(format!("{name}: memory peak"), "MiB", peak.both(), None);
    }

    fn report(self, report: &mut Report) {
        for Figure { name, unit, target, values } in self.0 {
            report.add(&name, unit, &values, target);
        }
    }
}

/// Megabytes a second.
fn rate(bytes: usize, elapsed: Duration) -> f64 {
    bytes as f64 / 1e6 / elapsed.as_secs_f64()
}

fn shown_size(bytes: usize) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let fits = |(shift, _): &(u32, &str)| bytes.is_multiple_of(1 << shift);
    let unit = units.into_iter().find(fits);
    unit.map_or_else(|| format!("{bytes} B"), |(shift, unit)| format!("{} {unit}", bytes >> shift))
}

/// The same bytes as a file, for other programs.
fn write(path: &Path, content: &Content) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).unwrap();
    content.blocks().for_each(|block| file.write_all(block).unwrap());
    file.sync_all().unwrap();
}
